//! Values that never show themselves.

use std::fmt;
use std::ops::Deref;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A text or key that never shows itself: not in a log, an error or a debug print. The memory of this copy is wiped when it is
/// dropped; what keeps all copies from others is that the process cannot be dumped or traced (`system::privileges`).
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Secret<T: Zeroize = String>(T);

impl<T: Zeroize + Deref> Secret<T> {
    pub fn new(value: T) -> Secret<T> {
        Secret(value)
    }

    /// The value itself, for the one place that must send it.
    pub fn reveal(&self) -> &T::Target {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
