package dashboard

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// TokenOf returns the token that a browser shows for the dashboard, "" for none.
func TokenOf(r *http.Request) string {
	c, err := r.Cookie(tokenCookie)
	if err != nil {
		return ""
	}
	return c.Value
}

func setCookie(w http.ResponseWriter, r *http.Request, name, value string) {
	c := &http.Cookie{Name: name, Value: value, Path: Root, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// sameOrigin runs a handler for requests that a page of this dashboard sent: the browser must send its origin. A page of another site can send
// a form, but can neither leave out nor choose these headers.
func (s *Server) sameOrigin(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		origin, err := url.Parse(r.Header.Get("Origin"))
		same := r.Header.Get("Sec-Fetch-Site") == "same-origin" || r.Header.Get("Sec-Fetch-Site") == "" && err == nil && origin.Host != "" && origin.Host == r.Host
		if !same {
			refuse(w, http.StatusForbidden, "Not from this page", "Requests that change something must come from a page of the dashboard.")
			return
		}
		next(w, r)
	}
}

func (s *Server) getLogin(w http.ResponseWriter, r *http.Request) {
	if s.Known == nil {
		http.Redirect(w, r, Root, http.StatusSeeOther)
		return
	}
	render(w, http.StatusOK, "login", layout{Title: "Sign in"})
}

// tokenForm is what a token may look like before it is looked up: it becomes a cookie.
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

func (s *Server) postLogin(w http.ResponseWriter, r *http.Request) {
	s.sameOrigin(func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimSpace(r.PostFormValue("token"))
		switch {
		case s.Known == nil:
		case !tokenForm.MatchString(token) || !s.Known(token):
			render(w, http.StatusUnauthorized, "login", layout{Title: "Sign in", Notice: "The token is not known, or was revoked."})
			return
		default:
			setCookie(w, r, tokenCookie, token)
		}
		http.Redirect(w, r, Root, http.StatusSeeOther)
	})(w, r)
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	setCookie(w, r, tokenCookie, "")
	setCookie(w, r, tenantCookie, "")
	http.Redirect(w, r, Root+"/login", http.StatusSeeOther)
}

func (s *Server) chooseTenant(w http.ResponseWriter, r *http.Request) {
	name := r.PostFormValue("tenant")
	if name != "" && !validTenant(name) {
		refuse(w, http.StatusBadRequest, "No such tenant", "A tenant's name has 1 to 64 letters, digits, _ and -.")
		return
	}
	setCookie(w, r, tenantCookie, name)
	http.Redirect(w, r, Root, http.StatusSeeOther)
}
