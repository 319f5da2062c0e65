//! The page itself: one file, which requests nothing but itself and holds no name. Everybody who can connect may read it.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

/// What the browser shows.
pub const HTML: &str = include_str!("page.html");

/// Only the page's own style and script, known by their digests, and only requests to where the page came from. Text never
/// becomes markup: the browser itself refuses (`require-trusted-types-for`).
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = |element: &str| STANDARD.encode(Sha256::digest(inner(element)));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        digest("script"),
        digest("style")
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// What stands in the page's one element of this name.
fn inner(element: &str) -> &'static str {
    let begin = HTML.split_once(&format!("<{element}>")).map_or("", |(_, rest)| rest);
    begin.split_once(&format!("</{element}>")).map_or("", |(inner, _)| inner)
}

/// What tells a browser to be strict, for the page and for all that it asks for.
pub fn strict_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in [
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_nothing_but_itself() {
        assert!(inner("script").len() > 1000 && inner("style").len() > 1000);
        assert_eq!((HTML.matches("<script").count(), HTML.matches("<style").count()), (1, 1));
        for outside in
            ["src=", "@import", "url(", "//cdn", "https:", "innerHTML", "outerHTML", "insertAdjacentHTML", "eval("]
        {
            assert!(!HTML.contains(outside), "{outside}");
        }
        // The name of SVG's own language is no address that anybody asks.
        assert_eq!(HTML.matches("http:").count(), HTML.matches("http://www.w3.org/2000/svg").count());
        for handler in [" onclick=", " onload=", " style=\"", "javascript:"] {
            assert!(!HTML.contains(handler), "{handler} would be refused by the page's own policy");
        }
    }
}
