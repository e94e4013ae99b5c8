/*
 * A wall clock of a process's own, for LD_PRELOAD: that of the machine, and as many nanoseconds ahead of it as the file named
 * by WALL_CLOCK_AHEAD holds, in one number of 64 bits. It may be set at any time, as an administrator sets a machine's: what
 * waits until a time of day ends when this clock says so, and longer where it is set back (clock_settime(2)). The clocks that
 * nobody can set stay as they are.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

static int64_t of(const struct timespec *time) { return time->tv_sec * SECOND + time->tv_nsec; }

static struct timespec timespec(int64_t nanoseconds) {
  struct timespec time = {.tv_sec = nanoseconds / SECOND, .tv_nsec = nanoseconds % SECOND};
  return time;
}

/* Only of the machine: not those below. */
static int64_t machine(clockid_t clock) {
  struct timespec now;
  syscall(SYS_clock_gettime, clock, &now);
  return of(&now);
}

static int64_t ahead(void) {
  static _Atomic(_Atomic int64_t *) mapped;
  _Atomic int64_t *file = mapped;
  if (!file) {
    const char *path = getenv("WALL_CLOCK_AHEAD");
    int descriptor = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *found = mmap(NULL, sizeof *file, PROT_READ, MAP_SHARED, descriptor, 0);
    if (descriptor < 0 || found == MAP_FAILED) abort();
    close(descriptor);
    mapped = file = found;
  }
  return *file;
}

static int64_t wall(void) { return machine(CLOCK_REALTIME) + ahead(); }

int clock_gettime(clockid_t clock, struct timespec *now) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) return (int)syscall(SYS_clock_gettime, clock, now);
  *now = timespec(wall());
  return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  int64_t nanoseconds = wall();
  now->tv_sec = nanoseconds / SECOND;
  now->tv_usec = nanoseconds % SECOND / 1000;
  return 0;
}

time_t time(time_t *now) {
  time_t seconds = wall() / SECOND;
  if (now) *now = seconds;
  return seconds;
}

int timespec_get(struct timespec *now, int base) {
  if (base != TIME_UTC) return 0;
  *now = timespec(wall());
  return base;
}

/* Of condition variables that wait by the wall clock, as those of C11 do. */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
  int64_t longest = INT64_MAX;
  for (;;) {
    int64_t left = of(until) - wall();
    if (left <= 0) return thrd_timedout;
    struct timespec end = timespec(machine(CLOCK_MONOTONIC) + (left < longest ? left : longest));
    int result = pthread_cond_clockwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, CLOCK_MONOTONIC, &end);
    if (result != ETIMEDOUT) return result == 0 ? thrd_success : thrd_error;
    /* It was set back meanwhile, and may be set forward again. */
    longest = SECOND;
  }
}
