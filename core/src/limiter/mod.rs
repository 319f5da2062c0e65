//! The decision on a request: where its account stands, which limits that exceeds, and what Postfix is told. Pure: time is an
//! argument.

pub mod blocks;
pub mod day;
pub mod decide;
pub mod decision;
pub mod explain;
pub mod history;
pub mod increase;
pub mod moment;
pub mod retention;
pub mod strikes;
pub mod terms;
pub mod usual;
pub mod verdict;
pub mod window;
