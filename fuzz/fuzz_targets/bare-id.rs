#![no_main]

alert_ips_fuzz::target!(BareId);
