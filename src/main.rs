//! The program: runs the command line and ends the process with its exit code.

/// A quarter less processor time than with glibc's, for a daemon whose threads free what others allocated.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::disallowed_methods, reason = "the one place that ends the process")]
fn main() {
    // Not a plain return: a thread of librdkafka may hang on brokers that are away, and everything is settled by now.
    std::process::exit(alert_ips::cli::main(std::env::args_os()).code());
}
