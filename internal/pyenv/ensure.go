package pyenv

import (
	"context"
	"path/filepath"
)

// Ensure returns the product's environment, and makes it first if this machine has none: minutes on a slow network, a few
// milliseconds afterwards. Two processes may call it at once: one works, the other waits and reports it. An interrupted attempt
// is started again by the next call. Errors are *Error and report what to install.
func Ensure(ctx context.Context, cfg Config) (Env, error) {
	b, err := newBuilder(cfg)
	if err != nil {
		return Env{}, err
	}
	defer b.progress.close()
	py, err := b.find(ctx, b.usable)
	if err != nil {
		return Env{}, err
	}
	key := b.key(py)
	dir := filepath.Join(b.cache, "venv-"+key)
	if !whole(dir, key, py) {
		if err := b.make(ctx, py, dir, key); err != nil {
			return Env{}, err
		}
	}
	env := b.env(py)
	env.Python, env.SitePackages, env.Key = venvPython(dir), venvSite(dir, py), key
	env.OwnVenv = py.VenvSite != ""
	if len(env.Paths) > 0 {
		env.withSite(py.VenvSite)
	}
	if err := b.withRequirements(ctx, &env, py); err != nil {
		return Env{}, err
	}
	return b.withRuntime(ctx, env, py)
}

// System returns an environment that uses the interpreter as it is and installs nothing: enough for the stub engine. An
// interpreter that belongs to a virtual environment brings that environment's packages along.
func System(ctx context.Context, cfg Config) (Env, error) {
	b, err := newBuilder(cfg)
	if err != nil {
		return Env{}, err
	}
	defer b.progress.close()
	py, err := b.find(ctx, b.recent)
	if err != nil {
		return Env{}, err
	}
	env := b.env(py)
	env.Python, env.SitePackages = py.Executable, py.VenvSite
	env.withSite(py.VenvSite)
	if err := b.withRequirements(ctx, &env, py); err != nil {
		return Env{}, err
	}
	return b.withRuntime(ctx, env, py)
}
