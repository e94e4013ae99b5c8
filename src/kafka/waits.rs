//! librdkafka's waits, by a clock that nobody can set.
//!
//! It waits on the condition variables of C11, until a time of day (confluentinc/librdkafka#2145): who sets the machine's clock
//! back by an hour makes each of its threads wait an hour longer, also the one that tells the group that this instance is there.
//! In glibc and in musl these are POSIX's condition variables by another name, and of those each may have the clock that it
//! waits by. So two of C11's functions are defined here, and the linker has librdkafka call these; nothing else in the program
//! uses C11's. (With 32 bits C calls them by other names there.) Without them `tests/kafka/wall_clock.rs` fails.

#![expect(unsafe_code, reason = "these are functions of C, on variables of C; there is no other unsafe code")]

use std::mem::MaybeUninit;

use libc::{
    CLOCK_MONOTONIC, CLOCK_REALTIME, ETIMEDOUT, c_int, clockid_t, pthread_cond_init, pthread_cond_t,
    pthread_cond_timedwait, pthread_cond_wait, pthread_condattr_destroy, pthread_condattr_init,
    pthread_condattr_setclock, pthread_condattr_t, pthread_mutex_t, time_t, timespec,
};

/// What C11's functions return, in glibc and in musl.
const SUCCESS: c_int = 0;
const ERROR: c_int = 2;
const TIMED_OUT: c_int = 4;

const SECOND: i128 = 1_000_000_000;

/// C11's `cnd_init`; deadlines of this condition are of `CLOCK_MONOTONIC`.
///
/// # Safety
///
/// `condition` is memory for a condition variable that is none yet.
#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_init(condition: *mut pthread_cond_t) -> c_int {
    let mut attributes = MaybeUninit::<pthread_condattr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: the attributes are used between their two ends only; of `condition` the caller vouches.
    let is_made = unsafe {
        if pthread_condattr_init(attributes) != 0 {
            return ERROR;
        }
        let is_made = pthread_condattr_setclock(attributes, CLOCK_MONOTONIC) == 0
            && pthread_cond_init(condition, attributes) == 0;
        pthread_condattr_destroy(attributes);
        is_made
    };
    if is_made { SUCCESS } else { ERROR }
}

/// C11's `cnd_timedwait`: as long as it is from now until that time of day, whatever becomes of the time of day meanwhile (but not
/// between the caller's look at the clock and this one's). Where `until` is null, for ever: musl's `cnd_wait` asks for that here.
///
/// # Safety
///
/// `condition` was made by [`cnd_init`], the caller holds `mutex`, and `until` is a time or null.
#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller vouches for all three.
    let result = unsafe {
        match until.as_ref() {
            None => pthread_cond_wait(condition, mutex),
            Some(until) => {
                let left = nanoseconds(until) - now(CLOCK_REALTIME);
                pthread_cond_timedwait(condition, mutex, &time(now(CLOCK_MONOTONIC) + left.max(0)))
            }
        }
    };
    match result {
        0 => SUCCESS,
        ETIMEDOUT => TIMED_OUT,
        _ => ERROR,
    }
}

/// Nanoseconds of a clock.
fn now(clock: clockid_t) -> i128 {
    let mut now = time(0);
    // SAFETY: it writes the time, and nothing else. It can't fail: each Linux has these clocks.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    nanoseconds(&now)
}

fn nanoseconds(time: &timespec) -> i128 {
    i128::from(time.tv_sec) * SECOND + i128::from(time.tv_nsec)
}

/// Too late ones are as late as can be said.
fn time(nanoseconds: i128) -> timespec {
    timespec {
        tv_sec: (nanoseconds / SECOND).try_into().unwrap_or(time_t::MAX),
        tv_nsec: (nanoseconds % SECOND).try_into().unwrap_or_default(),
    }
}
