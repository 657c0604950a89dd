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
