package report

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Mail is who gets mail, and by whom.
type Mail struct {
	To           []string
	From         string
	SMTP         string // host or host:port; "" the machine's sendmail
	Username     string
	PasswordFile string // absolute
}

// send sends one mail.
func (m Mail) send(ctx context.Context, command func(context.Context, string, ...string) *exec.Cmd, b batch, cluster string, now time.Time) error {
	text := m.message(b, cluster, now)
	if m.SMTP == "" {
		return m.sendmail(ctx, command, text)
	}
	err := m.smtp(ctx, text)
	if p, sent := err.(partly); sent {
		return partly{fmt.Errorf("send mail by %s: %w", m.SMTP, p.error)}
	}
	if err != nil {
		return fmt.Errorf("send mail by %s: %w", m.SMTP, err)
	}
	return nil
}

// message is the whole mail, with the line ends of SMTP.
func (m Mail) message(b batch, cluster string, now time.Time) []byte {
	subject := fmt.Sprintf("[%s] %s", cluster, b.events[0].short())
	for _, e := range b.events { // what a person has to look at comes first
		if e.Kind == "alarm" && e.To == "on" {
			subject = fmt.Sprintf("[%s] %s", cluster, e.short())
			break
		}
	}
	if n := len(b.events) - 1; n > 0 {
		subject += fmt.Sprintf(" and %d more", n)
	}
	subject = oneLine(subject)
	var id [12]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	_, host, _ := strings.Cut(m.From, "@")
	if host == "" {
		host = "localhost"
	}
	var out bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&out, "%s: %s\r\n", name, value) }
	header("From", m.From)
	header("To", strings.Join(m.To, ",\r\n "))
	header("Subject", mime.QEncoding.Encode("utf-8", subject))
	header("Date", now.Format(time.RFC1123Z))
	header("Message-ID", fmt.Sprintf("<%x@%s>", id, host))
	header("Auto-Submitted", "auto-generated") // RFC 3834: nobody answers it by a machine
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	out.WriteString("\r\n")
	q := quotedprintable.NewWriter(&out) // to a buffer: it cannot fail
	for _, e := range b.events {
		fmt.Fprintf(q, "%s\r\n", oneLine(e.line()))
	}
	if b.lost > 0 {
		fmt.Fprintf(q, "\r\n%d events before these could not be told: harouter events has them.\r\n", b.lost)
	}
	_ = q.Close()
	return out.Bytes()
}

// oneLine keeps a text from beginning another line, or header.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// sendmails are where the program may be beside PATH.
var sendmails = []string{"sendmail", "/usr/sbin/sendmail", "/usr/lib/sendmail"}

func (m Mail) sendmail(ctx context.Context, command func(context.Context, string, ...string) *exec.Cmd, text []byte) error {
	for _, name := range sendmails {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		var said bytes.Buffer
		cmd := command(ctx, path, append([]string{"-i", "-f", m.From, "--"}, m.To...)...)
		cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
		cmd.Stdout, cmd.Stderr = &said, &said
		switch err := cmd.Run(); {
		case err == nil, errors.Is(err, exec.ErrWaitDelay): // it went on in the background
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("send mail by %s: %w", path, context.Cause(ctx))
		default:
			return fmt.Errorf("send mail by %s: %w: %q", path, err, said.Bytes()[:min(said.Len(), 200)])
		}
	}
	return errors.New("send mail: there is no sendmail on this machine; set mail.smtp to a mail server")
}

// server is host and port.
func (m Mail) server() (host, port string) {
	host, port, err := net.SplitHostPort(m.SMTP)
	if err == nil {
		return host, port
	}
	if m.Username != "" {
		return strings.Trim(m.SMTP, "[]"), "587" // RFC 6409
	}
	return strings.Trim(m.SMTP, "[]"), "25"
}

// partly is the error of a message that is sent, but not to all.
type partly struct{ error }

const implicitTLS = "465" // RFC 8314

func (m Mail) smtp(ctx context.Context, text []byte) error {
	password, err := m.password()
	if err != nil {
		return err
	}
	host, port := m.server()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	settings := &tls.Config{ServerName: host}
	if port == implicitTLS {
		conn = tls.Client(conn, settings)
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return err
	}
	if name, err := os.Hostname(); err == nil {
		if err := c.Hello(name); err != nil {
			return err
		}
	}
	if ok, _ := c.Extension("STARTTLS"); ok && port != implicitTLS {
		if err := c.StartTLS(settings); err != nil {
			return fmt.Errorf("begin TLS: %w", err)
		}
	}
	if m.Username != "" {
		// It refuses to send a password unless by TLS or to this machine.
		if err := c.Auth(smtp.PlainAuth("", m.Username, password, host)); err != nil {
			return fmt.Errorf("log in as %s: %w", m.Username, err)
		}
	}
	if err := c.Mail(m.From); err != nil {
		return fmt.Errorf("from %s: %w", m.From, err)
	}
	var refused []error
	for _, to := range m.To {
		if err := c.Rcpt(to); err != nil {
			refused = append(refused, fmt.Errorf("to %s: %w", to, err))
		}
	}
	if len(refused) == len(m.To) { // else those that can get it do
		return errors.Join(refused...)
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = c.Quit() // the mail is taken
	if len(refused) > 0 {
		return partly{errors.Join(refused...)}
	}
	return nil
}

// password reads the file; "" without a user.
func (m Mail) password() (string, error) {
	if m.Username == "" {
		return "", nil
	}
	info, err := os.Stat(m.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	if !info.Mode().IsRegular() { // a pipe would be waited for
		return "", fmt.Errorf("read the password: %s is no file", m.PasswordFile)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("read the password: %s can be read by others (mode %04o): chmod 600 it", m.PasswordFile, mode)
	}
	b, err := os.ReadFile(m.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}
