#![doc = include_str!("../README.md")]

pub mod decode;
pub mod doctor;
pub mod layers;
pub mod products;
pub mod timing;
