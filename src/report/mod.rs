//! A run as one page that needs nothing installed.

mod fragment;

pub use fragment::Fragment;
