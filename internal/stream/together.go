package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Message is what is to be stored.
type Message struct {
	Subject string
	Header  map[string][]string
	Data    []byte
}

// Queue is what messages that are stored together add to one subject.
type Queue struct {
	Subject string // as the stream has it, wildcards allowed
	First   int    // index of its first message
	Number  int
}

// togetherTries bounds how often messages are sent again because another one came between.
const togetherTries = 8

// StoreTogether stores messages of one stream, all or none. The broker refuses them if a subject would have more than its bound. But it counts
// several subjects wrongly, and may then store a part only (nats-server 2.15.2, checkMsgHeadersPreClusteredProposal: in a stream with MaxBytes a
// loop leaves another subject's count in i). So where there are several queues they are counted here, and nothing may come to them
// between this and the write.
func (a *Access) StoreTogether(ctx context.Context, stream string, all []Message, queues []Queue) error {
	ctx, cancel := context.WithTimeout(ctx, AckTimeout)
	defer cancel()
	for range togetherTries {
		if err := a.hold(ctx, stream, all, queues); err != nil {
			return err
		}
		if err := a.publishTogether(ctx, all); !errors.Is(err, ErrWrongRevision) {
			return err
		}
	}
	return ErrBusy
}

func (a *Access) publishTogether(ctx context.Context, all []Message) error {
	messages := make([]*nats.Msg, len(all))
	for i, m := range all {
		messages[i] = &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}
	}
	_, err := jetstreamext.PublishMsgBatch(ctx, a.JS, messages)
	var refused *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refusal(int(refused.ErrorCode), refused.Description)
	case errors.Is(err, nats.ErrNoResponders):
		return ErrNoStream
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// SubjectBound is how many messages a stream keeps of one subject; below 1: any number.
func (a *Access) SubjectBound(ctx context.Context, stream string) (int64, error) {
	s, err := a.JS.Stream(ctx, stream)
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().Config.MaxMsgsPerSubject, nil
}

// hold finds out whether each queue has room, and has its first message expect that it gets no other message until then.
func (a *Access) hold(ctx context.Context, stream string, all []Message, queues []Queue) error {
	if len(queues) < 2 { // the broker counts one subject rightly
		return nil
	}
	s, err := a.JS.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	most := s.CachedInfo().Config.MaxMsgsPerSubject
	if most < 1 {
		return nil
	}
	var looks sync.WaitGroup
	failed := make([]error, len(queues))
	for i, q := range queues {
		looks.Go(func() {
			last, err := a.Reads.Last(ctx, a.NC, stream, q.Subject) // before they are counted: later ones are not expected
			has := uint64(0)
			switch {
			case errors.Is(err, ErrNotFound):
			case err != nil:
				failed[i] = fmt.Errorf("%w: %w", ErrBusy, err)
				return
			default:
				var info *jetstream.StreamInfo
				if info, err = s.Info(ctx, jetstream.WithSubjectFilter(q.Subject)); err != nil {
					failed[i] = fmt.Errorf("%w: %w", ErrBusy, err)
					return
				}
				for _, n := range info.State.Subjects {
					has += n
				}
			}
			if has+uint64(q.Number) > uint64(most) {
				failed[i] = ErrSubjectFull
				return
			}
			all[q.First].Header[nats.ExpectedLastSubjSeqHdr] = []string{strconv.FormatUint(last.Sequence, 10)}
		})
	}
	looks.Wait()
	return errors.Join(failed...)
}
