package kernel

import "golang.org/x/sys/unix"

// Numbers of linux/netfilter/nfnetlink_conntrack.h.
const (
	msgNew    = 0
	msgGet    = 1
	msgDelete = 2

	ofFlow        = unix.NFNL_SUBSYS_CTNETLINK << 8
	ofExpectation = unix.NFNL_SUBSYS_CTNETLINK_EXP << 8

	ctaTupleOrig   = 1
	ctaTupleReply  = 2
	ctaStatus      = 3
	ctaProtoInfo   = 4
	ctaHelp        = 5
	ctaNATSrc      = 6
	ctaTimeout     = 7
	ctaMark        = 8
	ctaID          = 12
	ctaNATDst      = 13
	ctaTupleMaster = 14
	ctaAdjustOrig  = 15
	ctaAdjustReply = 16
	ctaZone        = 18
	ctaMarkMask    = 21
	ctaLabels      = 22
	ctaStatusMask  = 26

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum        = 1
	ctaProtoSrcPort    = 2
	ctaProtoDstPort    = 3
	ctaProtoICMPID     = 4
	ctaProtoICMPType   = 5
	ctaProtoICMPCode   = 6
	ctaProtoICMPv6ID   = 7
	ctaProtoICMPv6Type = 8
	ctaProtoICMPv6Code = 9

	ctaProtoInfoTCP  = 1
	ctaProtoInfoSCTP = 3

	ctaTCPState      = 1
	ctaTCPScaleOrig  = 2
	ctaTCPScaleReply = 3
	ctaTCPFlagsOrig  = 4
	ctaTCPFlagsReply = 5

	ctaSCTPState    = 1
	ctaSCTPTagOrig  = 2
	ctaSCTPTagReply = 3

	ctaHelpName = 1

	ctaAdjustPosition = 1
	ctaAdjustBefore   = 2
	ctaAdjustAfter    = 3

	ctaExpectMaster   = 1
	ctaExpectTuple    = 2
	ctaExpectMask     = 3
	ctaExpectTimeout  = 4
	ctaExpectHelper   = 6
	ctaExpectZone     = 7
	ctaExpectFlags    = 8
	ctaExpectClass    = 9
	ctaExpectNAT      = 10
	ctaExpectFunction = 11

	ctaExpectNATDirection = 1
	ctaExpectNATTuple     = 2

	ctaNATv4Min   = 1
	ctaNATv4Max   = 2
	ctaNATProto   = 3
	ctaNATv6Min   = 4
	ctaNATv6Max   = 5
	ctaNATPortMin = 1
	ctaNATPortMax = 2

	// tcpLiberal makes the kernel take packets outside of the window it knows
	// (IP_CT_TCP_FLAG_BE_LIBERAL).
	tcpLiberal = 0x08

	sizeHeader = 16 // struct nlmsghdr
	sizeFamily = 4  // struct nfgenmsg
	sizeAttr   = 4  // struct nlattr
	typeBits   = 0x3fff
)
