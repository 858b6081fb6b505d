//! How fast requests may follow one another. Time is an argument: since when does not matter, as long as it never goes
//! back.

use std::time::Duration;

/// The first pause where the API server does not say how long; then twice as long, and so on.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause, also where the API server asks for more.
const LONGEST: Duration = Duration::from_secs(60);

/// One pace for all connections of a sweep.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    gap: Duration,
    next: Duration,
}

impl Pace {
    /// At most so many requests a second; zero counts as one.
    pub fn per_second(requests: u32) -> Self {
        Self {
            gap: Duration::from_secs(1) / requests.max(1),
            next: Duration::ZERO,
        }
    }

    /// When the next request may be sent. Each call is one request.
    pub fn turn(&mut self, now: Duration) -> Duration {
        let at = self.next.max(now);
        self.next = at + self.gap;
        at
    }

    /// Nobody sends anything for as long as the API server asks, or ever longer with each failure in a row.
    pub fn hold(&mut self, now: Duration, asked: Option<Duration>, failures: u32) {
        let own = FIRST.saturating_mul(1 << failures.min(16));
        let pause = asked.unwrap_or(own).min(LONGEST);
        self.next = self.next.max(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn requests_keep_their_distance_and_lost_time_is_not_made_up_for() {
        let mut pace = Pace::per_second(100);
        assert_eq!(
            [pace.turn(ms(0)), pace.turn(ms(0)), pace.turn(ms(0))],
            [ms(0), ms(10), ms(20)]
        );
        assert_eq!([pace.turn(ms(5_000)), pace.turn(ms(5_000))], [ms(5_000), ms(5_010)]);
        assert_eq!(Pace::per_second(0).gap, ms(1_000));
    }

    #[test]
    fn all_wait_as_long_as_the_api_server_asks() {
        let mut pace = Pace::per_second(100);
        pace.turn(ms(0));
        pace.hold(ms(0), Some(ms(3_000)), 0);
        assert_eq!(pace.turn(ms(1)), ms(3_000));
        pace.hold(ms(3_000), Some(Duration::from_secs(3_600)), 0);
        assert_eq!(pace.turn(ms(3_000)), ms(63_000));
    }

    #[test]
    fn without_a_word_the_pauses_grow() {
        let pause = |failures| {
            let mut pace = Pace::per_second(100);
            pace.hold(ms(0), None, failures);
            pace.turn(ms(0))
        };
        assert_eq!(
            [pause(0), pause(1), pause(2), pause(40)],
            [ms(250), ms(500), ms(1_000), LONGEST]
        );
    }
}
