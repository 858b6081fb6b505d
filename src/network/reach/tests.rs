mod brute;
mod closure;
mod concrete;
mod scale;
mod selectors;
mod traps;
