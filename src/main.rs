//! The program: runs the command line and ends the process with its exit code.

#[expect(clippy::disallowed_methods, reason = "the one place that ends the process")]
fn main() {
    // Not a plain return: a thread of librdkafka may hang on brokers that are away, and everything is settled by now.
    std::process::exit(alert_ips::cli::main(std::env::args_os()).code());
}
