//! Pure decisions: no clock, no I/O, no SQL. Time is an argument.

pub mod action;
pub mod decide;
pub mod decimal;
pub mod duration;
pub mod explain;
pub mod history;
pub mod hours;
pub mod limit;
pub mod lists;
pub mod network;
pub mod steps;
pub mod subject;
pub mod syntax;
pub mod terms;
pub mod text;
pub mod window;
