package balancer

import (
	"encoding/json"
	"testing"
)

func TestVerdictText(t *testing.T) {
	for v, want := range map[Verdict]string{
		Unknown: "unknown", Up: "up", Degraded: "degraded", Down: "down", Disabled: "disabled",
	} {
		b, err := json.Marshal(v)
		if err != nil || string(b) != `"`+want+`"` {
			t.Errorf("marshal %v = %s, %v", v, b, err)
		}
		var got Verdict
		if err := json.Unmarshal(b, &got); err != nil || got != v {
			t.Errorf("unmarshal %s = %v, %v", b, got, err)
		}
		if v.Usable() != (v == Up || v == Degraded) {
			t.Errorf("%v.Usable() = %v", v, v.Usable())
		}
	}
}

func TestUsableWeight(t *testing.T) {
	for v, want := range map[Verdict]int{Unknown: 0, Up: 12, Degraded: 3, Down: 0, Disabled: 0, 9: 0} {
		if got := v.UsableWeight(3); got != want {
			t.Errorf("%v of weight 3: %d, want %d", v, got, want)
		}
	}
}

func TestVerdictRefusesOtherText(t *testing.T) {
	for _, text := range []string{"", "UP", "up ", "verdict(9)"} {
		v := Down
		if err := v.UnmarshalText([]byte(text)); err == nil || v != Down {
			t.Errorf("%q was read as %v, %v", text, v, err)
		}
	}
	if _, err := Verdict(9).MarshalText(); err == nil {
		t.Error("a verdict without a name was written")
	}
	if got := Verdict(9).String(); got != "verdict(9)" {
		t.Errorf("String = %q", got)
	}
}
