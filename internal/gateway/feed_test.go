package gateway

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/dspex/dspex"
)

func TestAFeedKeepsTheLatestPiecesWithinItsBound(t *testing.T) {
	f := newFeed(feedKey{"default", dspex.JobRef{ID: "j"}}, [sha256.Size]byte{})
	const pieces = 1000
	for n := range pieces {
		f.add(dspex.Chunk{Attempt: 1, N: n, Field: "answer", Text: strings.Repeat("x", 1000)})
	}
	texts, next, ended, _ := f.read(0)
	kept := 0
	for _, text := range texts {
		kept += len(text)
	}
	switch {
	case kept > feedBytes:
		t.Errorf("kept must be <= feedBytes, got %v; %d bytes are kept, the next is %d, ended %v", kept, kept, next, ended)
	case kept < feedBytes/2:
		t.Errorf("kept must be >= feedBytes/2, got %v; %d bytes are kept, the next is %d, ended %v", kept, kept, next, ended)
	case next != pieces:
		t.Errorf("next: got %v, want %v; %d bytes are kept, the next is %d, ended %v", next, pieces, kept, next, ended)
	case ended:
		t.Errorf("must not hold: ended; %d bytes are kept, the next is %d, ended %v", kept, next, ended)
	}
	if last := string(texts[len(texts)-1]); !strings.HasPrefix(last, "id: 1.999\n") {
		t.Errorf("%.40s", last)
	}
	if at := f.seek(position{1, 998}); at != 999 {
		t.Errorf("behind 1.998 is %d", at)
	}
	if at := f.seek(position{2, 0}); at != pieces {
		t.Errorf("behind what never came is %d", at)
	}
}

func TestAPieceOfALaterAttemptIsBehindAllOfAnEarlierOne(t *testing.T) {
	f := newFeed(feedKey{"default", dspex.JobRef{ID: "j"}}, [sha256.Size]byte{})
	f.add(dspex.Chunk{Attempt: 1, N: 7})
	f.add(dspex.Chunk{Attempt: 2, N: 0})
	texts, _, _, _ := f.read(f.seek(position{1, 7}))
	if len(texts) != 1 || !strings.HasPrefix(string(texts[0]), "id: 2.0\n") {
		t.Errorf("%q", texts)
	}
}
