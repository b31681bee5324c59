//! The kernel: its version, io_uring, its clock, and the files that executors are placed by.

use super::finding::Finding;
use super::machine::Machine;
use super::wants::Wants;
use ringcast_runtime::start::{KERNEL_MIN, is_new_enough};

/// All of it.
pub fn check(machine: &Machine, _: &Wants) -> Vec<Finding> {
    let checks = [version(machine), io_uring(machine), clock(machine), topology(machine)];
    checks.into_iter().flatten().collect()
}

fn version(machine: &Machine) -> Option<Finding> {
    let release = machine.text("proc/sys/kernel/osrelease")?;
    let found = format!("Linux {release}");
    if is_new_enough(&release) {
        return Some(Finding::ok("kernel", found));
    }
    let (major, minor) = KERNEL_MIN;
    let why = format!("the rings of the shards need Linux {major}.{minor} (IORING_SETUP_DEFER_TASKRUN)");
    let remedy = "install a newer kernel: Debian 12, Ubuntu 24.04 and RHEL 10 have one, Ubuntu 22.04 its HWE kernel";
    Some(Finding::fail("kernel", found).why(why).remedy(remedy))
}

fn io_uring(machine: &Machine) -> Option<Finding> {
    let disabled = machine.number("proc/sys/kernel/io_uring_disabled").unwrap_or(0);
    let outcome = machine.try_io_uring();
    let why = "every shard serves its sockets through a ring, and there is no other way";
    match (outcome, disabled) {
        (Some(Ok(())), 0) => Some(Finding::ok("io_uring", "a ring can be made")),
        (Some(Ok(())), _) => Some(
            Finding::note("io_uring", format!("a ring can be made, but kernel.io_uring_disabled is {disabled}"))
                .why("with 1, only members of kernel.io_uring_group and those with CAP_SYS_ADMIN may make rings")
                .remedy("sysctl -w kernel.io_uring_disabled=0"),
        ),
        (Some(Err(error)), 0) => Some(
            Finding::fail("io_uring", format!("refused: {error}"))
                .why(format!("{why}; as a rule the seccomp filter of a container refuses"))
                .remedy("docker run --security-opt seccomp=tuning/seccomp.json ..."),
        ),
        (Some(Err(_)) | None, 1..) => Some(
            Finding::fail("io_uring", format!("switched off: kernel.io_uring_disabled is {disabled}"))
                .why(why)
                .remedy("sysctl -w kernel.io_uring_disabled=0"),
        ),
        (None, 0) => None,
    }
}

fn clock(machine: &Machine) -> Option<Finding> {
    let source = machine.text("sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    let found = format!("clock source {source}");
    if ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"].contains(&source.as_str()) {
        return Some(Finding::ok("clock", found));
    }
    let why = "each turn of a shard reads the clock twice; this source needs a system call for that (hundreds of \
               nanoseconds and more), the processor's counter some 25 ns";
    let file = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    Some(Finding::warn("clock", found).why(why).remedy(format!("echo tsc > {file}, or tsc=reliable at boot")))
}

fn topology(machine: &Machine) -> Option<Finding> {
    if machine.text("sys/devices/system/cpu/online").is_some() {
        return None;
    }
    let why = "shards are placed by what the kernel tells there about CPUs; without it none starts";
    Some(Finding::fail("sysfs", "/sys is not mounted").why(why).remedy("mount -t sysfs -o ro sysfs /sys"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::{expect, wants};
    use super::*;

    const CLOCK: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";

    #[test]
    fn old_kernels_fail() {
        let check = |release, want| {
            expect(check, &[("proc/sys/kernel/osrelease", release)], &wants(2, 1), "kernel", Some(want), &[release]);
        };
        check("6.1.0-13-amd64", Level::Ok);
        check("5.15.0-91-generic", Level::Fail);
        expect(super::check, &[], &wants(2, 1), "kernel", None, &[]);
    }

    #[test]
    fn switched_off_io_uring_fails() {
        let file = "proc/sys/kernel/io_uring_disabled";
        expect(check, &[(file, "2\n")], &wants(2, 1), "io_uring", Some(Level::Fail), &["io_uring_disabled=0"]);
        expect(check, &[(file, "0\n")], &wants(2, 1), "io_uring", None, &[]);
    }

    #[test]
    fn slow_clocks_are_named() {
        expect(check, &[(CLOCK, "tsc\n")], &wants(2, 1), "clock", Some(Level::Ok), &[]);
        expect(check, &[(CLOCK, "hpet\n")], &wants(2, 1), "clock", Some(Level::Warn), &["hpet", "tsc"]);
    }

    #[test]
    fn a_missing_sysfs_fails() {
        expect(check, &[], &wants(2, 1), "sysfs", Some(Level::Fail), &["mount"]);
        expect(check, &[("sys/devices/system/cpu/online", "0")], &wants(2, 1), "sysfs", None, &[]);
    }
}
