package batches

import "testing"

func TestNoTenantHasAllOpenBatchesOfAStream(t *testing.T) {
	p := places{of: map[string]int{}}
	for range mostOpenOfTenant {
		if bad := p.take("acme"); bad != nil {
			t.Fatal(bad)
		}
	}
	bad := p.take("acme")
	if bad == nil {
		t.Fatal("one more of the tenant is taken")
	}
	if bad.Code != "overloaded" {
		t.Errorf("the code must be overloaded, got %s", bad.Code)
	}
	if !bad.Retryable {
		t.Error("the refusal must be retryable")
	}
	if bad.RetryAfter == 0 {
		t.Error("the refusal must have a time to come back at")
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
