// What stands in for the crate rand where tests want random numbers: as much of its interface as tests use (that of
// versions 0.4 to 0.7), with the same numbers in every run, because a verdict that changed from run to run would be none.
// The numbers are SplitMix64's (Steele, Lea and Flood, 2014).

use std::cell::Cell;

thread_local!(static STATE: Cell<u64> = const { Cell::new(0) });

fn next() -> u64 {
    STATE.with(|state| {
        let sum = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(sum);
        let mixed = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

pub trait Random: Sized {
    fn any() -> Self;
}

pub trait Between: Sized {
    fn between(low: Self, high: Self) -> Self;
}

macro_rules! whole_numbers {
    ($($kind:ty)*) => { $(
        impl Random for $kind {
            fn any() -> Self { next() as $kind }
        }
        impl Between for $kind {
            fn between(low: Self, high: Self) -> Self {
                assert!(low < high, "gen_range: an empty range");
                (low as i128 + (next() as i128).rem_euclid(high as i128 - low as i128)) as $kind
            }
        }
    )* };
}

macro_rules! fractions {
    ($($kind:ty)*) => { $(
        impl Random for $kind {
            fn any() -> Self { (next() >> 40) as $kind / (1u64 << 24) as $kind }
        }
        impl Between for $kind {
            fn between(low: Self, high: Self) -> Self { low + Self::any() * (high - low) }
        }
    )* };
}

whole_numbers!(i8 i16 i32 i64 isize u8 u16 u32 u64 usize);
fractions!(f32 f64);

impl Random for bool {
    fn any() -> Self {
        next() >> 63 == 1
    }
}

pub trait Rng {
    fn gen<T: Random>(&mut self) -> T {
        T::any()
    }

    fn gen_range<T: Between>(&mut self, low: T, high: T) -> T {
        T::between(low, high)
    }

    fn gen_bool(&mut self, share: f64) -> bool {
        f64::any() < share
    }
}

pub struct ThreadRng;

impl Rng for ThreadRng {}

pub fn thread_rng() -> ThreadRng {
    ThreadRng
}

pub fn random<T: Random>() -> T {
    T::any()
}
