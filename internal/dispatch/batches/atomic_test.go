package batches

import "testing"

func TestNoTenantHasAllOpenBatchesOfAStream(t *testing.T) {
	p := places{of: map[string]int{}}
	for range mostOpenOfTenant {
		if bad := p.take("acme"); bad != nil {
			t.Fatal(bad)
		}
	}
	if bad := p.take("acme"); bad == nil || bad.Code != "overloaded" || !bad.Retryable || bad.RetryAfter == 0 {
		t.Errorf("one more of the tenant: %v", bad)
	}
	if bad := p.take("globex"); bad != nil {
		t.Errorf("of another tenant: %v", bad)
	}
	p.leave("acme")
	if bad := p.take("acme"); bad != nil {
		t.Errorf("when one has ended: %v", bad)
	}
	for p.take(string(rune('a'+p.all))) == nil {
	}
	if p.all != mostOpen {
		t.Errorf("%d of all tenants are open, want %d", p.all, mostOpen)
	}
}
