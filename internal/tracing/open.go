package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Config sets where spans go. Zero values: nowhere.
type Config struct {
	Endpoint string  // address of a collector for OTLP over HTTP, without a path
	Ratio    float64 // of the traces that begin here
	Prompts  bool    // texts of prompts and answers are attributes
}

// Flags declares the settings.
func (c *Config) Flags(f *pflag.FlagSet) {
	c.RequestFlags(f)
	f.BoolVar(&c.Prompts, "traces-prompts", false, "put the texts of prompts and answers of language models into spans")
}

// RequestFlags declares those of a program whose spans are of requests alone.
func (c *Config) RequestFlags(f *pflag.FlagSet) {
	f.StringVar(&c.Endpoint, "traces-endpoint", "", "address of an OpenTelemetry collector (OTLP over HTTP) that gets spans of jobs, such as http://127.0.0.1:4318; also $OTEL_EXPORTER_OTLP_ENDPOINT. Without it there are none")
	f.Float64Var(&c.Ratio, "traces-ratio", 1, "share of traces to sample, 0 to 1, of those that begin here; a client's traceparent decides about its own")
}

// Complete takes from the standard variables what the flags leave out, and reports all that is wrong.
func (c *Config) Complete(env func(string) string) error {
	var wrong []error
	if c.Endpoint == "" && env("OTEL_TRACES_EXPORTER") != "none" && env("OTEL_SDK_DISABLED") != "true" {
		c.Endpoint = first(env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), env("OTEL_EXPORTER_OTLP_ENDPOINT"))
	}
	switch exporter := env("OTEL_TRACES_EXPORTER"); exporter {
	case "", "otlp", "none":
	default:
		wrong = append(wrong, fmt.Errorf("OTEL_TRACES_EXPORTER must be otlp or none, got %q", exporter))
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"} {
		if how := env(name); how != "" && how != "gzip" && how != "none" {
			wrong = append(wrong, fmt.Errorf("%s must be gzip or none, got %q", name, how))
		}
	}
	if u, err := url.Parse(c.Endpoint); c.Endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		wrong = append(wrong, errors.New("--traces-endpoint must be an address such as http://127.0.0.1:4318"))
	}
	if c.Endpoint != "" {
		wrong = append(wrong, c.sampler(env))
	}
	if !(c.Ratio >= 0 && c.Ratio <= 1) {
		wrong = append(wrong, fmt.Errorf("--traces-ratio must be 0 to 1, got %v", c.Ratio))
	}
	return errors.Join(wrong...)
}

// sampler reads the standard variables of the sampler. It is based on the parent always.
func (c *Config) sampler(env func(string) string) error {
	name, text := env("OTEL_TRACES_SAMPLER"), env("OTEL_TRACES_SAMPLER_ARG")
	switch name {
	case "", "parentbased_always_on", "always_on":
	case "parentbased_always_off", "always_off":
		c.Ratio = 0
	case "parentbased_traceidratio", "traceidratio":
		ratio, err := strconv.ParseFloat(text, 64)
		if err != nil && text != "" {
			return fmt.Errorf("OTEL_TRACES_SAMPLER_ARG must be 0 to 1, got %q", text)
		}
		if text != "" {
			c.Ratio = ratio
		}
	default:
		return fmt.Errorf("OTEL_TRACES_SAMPLER must be parentbased_always_on, parentbased_always_off or parentbased_traceidratio, got %q", name)
	}
	return nil
}

// Open makes a tracer for a part of dspex, nil if there is no endpoint. Complete has been called.
func Open(cfg Config, env func(string) string, part, instance string, log *slog.Logger) (*Tracer, error) {
	if cfg.Endpoint == "" {
		return nil, nil
	}
	address, err := url.JoinPath(cfg.Endpoint, "v1/traces")
	if cfg.Endpoint == env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
		address = cfg.Endpoint // this one has its path
	}
	if err != nil {
		return nil, err
	}
	headers, err := pairs(first(env("OTEL_EXPORTER_OTLP_TRACES_HEADERS"), env("OTEL_EXPORTER_OTLP_HEADERS")))
	if err != nil {
		return nil, errors.New("OTEL_EXPORTER_OTLP_HEADERS must be name=value, separated by commas") // without the values: they are secrets
	}
	compression := otlptracehttp.NoCompression // a quarter of what a span costs, and the collector is mostly near
	if first(env("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"), env("OTEL_EXPORTER_OTLP_COMPRESSION")) == "gzip" {
		compression = otlptracehttp.GzipCompression
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(address), otlptracehttp.WithHeaders(headers),
		otlptracehttp.WithTimeout(sendWithin), otlptracehttp.WithCompression(compression),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: sendWithin, MaxElapsedTime: 3 * sendWithin}))
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	about, err := pairs(env("OTEL_RESOURCE_ATTRIBUTES"))
	if err != nil {
		return nil, errors.New("OTEL_RESOURCE_ATTRIBUTES must be name=value, separated by commas")
	}
	attributes := []attribute.KeyValue{attribute.String("service.name", first(env("OTEL_SERVICE_NAME"), "dspex-"+part)),
		attribute.String("service.instance.id", instance), attribute.String("service.namespace", "dspex")}
	for name, value := range about {
		attributes = append(attributes, attribute.String(name, value))
	}
	return open(cfg, exporter, resource.NewSchemaless(attributes...), log), nil
}

func open(cfg Config, exporter sdk.SpanExporter, about *resource.Resource, log *slog.Logger) *Tracer {
	t := &Tracer{bound: boundOf(cfg.Ratio), prompts: cfg.Prompts, queue: newQueue(exporter, log)}
	limits := sdk.NewSpanLimits()
	limits.AttributeValueLengthLimit, limits.AttributeCountLimit = mostSpanText, mostOfSpan
	t.provider = sdk.NewTracerProvider(sdk.WithResource(about), sdk.WithSpanProcessor(t.queue), sdk.WithIDGenerator(ids{}),
		sdk.WithRawSpanLimits(limits), sdk.WithSampler(sdk.AlwaysSample())) // Of and Root have decided before
	t.tracer = t.provider.Tracer("github.com/dspex/dspex")
	return t
}

// Close sends what waits, within a bound.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	_ = t.provider.Shutdown(ctx)
}

// Metrics are what is counted of the spans; none if there are none.
func (t *Tracer) Metrics() []prometheus.Collector {
	if t == nil {
		return nil
	}
	return t.queue.metrics()
}

// pairs reads name=value,name=value, with values as in an URL.
func pairs(text string) (map[string]string, error) {
	all := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		plain, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil {
			return nil, errors.New("no name=value")
		}
		all[strings.TrimSpace(name)] = plain
	}
	return all, nil
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
