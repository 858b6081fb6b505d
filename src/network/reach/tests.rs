mod brute;
mod closure;
mod scale;
mod selectors;
mod traps;
