//! The proof of the fleet's budget: the whole core (accounts, journal, codec, replay) over a simulated partition, network and
//! service, on one virtual clock, with everything going wrong that a seed can think of.

mod defects;
mod faults;
mod gate;
mod instance;
mod load;
mod log;
mod network;
mod oracle;
mod partition;
mod run;

use self::{
    defects::Defect,
    faults::Plan,
    oracle::{Figures, complaints},
    run::play,
};

#[test]
fn one() {
    let seed: u64 = std::env::var("ALERT_IPS_SEED").unwrap_or_default().parse().unwrap_or(1);
    let healthy = std::env::var("HEALTHY").is_ok();
    let plan = if healthy { Plan::healthy(seed) } else { Plan::draw(seed) };
    println!("{plan:#?}");
    let record = play(plan, Defect::None);
    println!("{}", Figures::of(&record));
    println!("{:#?}", complaints(&record));
}
