//! The rules of the house that a program can check: who may depend on whom, where `unsafe`, clocks and sockets may
//! stand, how a file opens, what must not be left behind. What needs taste is left to the reader.

mod arrows;
mod features;
mod keys;
mod map;
mod sources;
mod tree;
