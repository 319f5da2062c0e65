//! One file per subcommand, named like it.

pub mod check;
