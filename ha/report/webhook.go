package report

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Webhook is where events go as JSON.
type Webhook struct {
	URL     string
	Headers map[string]string
}

// body is what is sent.
type body struct {
	Cluster string  `json:"cluster"`
	Node    string  `json:"node"` // that sends
	Events  []Event `json:"events"`
	Lost    int     `json:"lost"` // events that could not be told since the last message
}

// send makes one request. A connection is not kept: the next is minutes away, and
// may have another uplink.
func (w Webhook) send(ctx context.Context, b batch, cluster, node string) error {
	text, err := json.Marshal(body{cluster, node, b.events, b.lost})
	if err != nil {
		return fmt.Errorf("write the webhook's JSON: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("post to the webhook: %w", err)
	}
	for name, value := range w.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "harouter")
	req.Close = true
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("post to the webhook: %w", err) // it names the URL
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 256))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("post to the webhook %s: it answers %s: %q", w.URL, resp.Status, bytes.TrimSpace(said))
	}
	return nil
}
