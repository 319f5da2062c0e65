//! The live screen without its terminal: what is known ([`figures`]), what the operator has chosen ([`state`]), and how it is
//! drawn ([`draw`]). Pure: no terminal, no clock, no socket, no SQL.

pub mod draw;
pub mod figures;
pub mod look;
pub mod state;
