//! Lists of CPUs as the kernel writes them: `0-3,8`.

use std::fmt;

/// CPUs above this are a slip of the keyboard; what an affinity mask has room for.
const CPU_MAX: usize = 1023;

/// What is wrong with a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuListError {
    /// Neither a number from 0 to 1023 nor a range of them.
    Part(String),
    /// It stands there twice.
    Twice(usize),
}

impl fmt::Display for CpuListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part(part) => {
                write!(f, "{part:?} is not a CPU from 0 to {CPU_MAX} or a range: expected a list such as 0-3,8")
            }
            Self::Twice(cpu) => write!(f, "CPU {cpu} is named twice: expected each once"),
        }
    }
}

/// The CPUs in the order of the list; none for an empty one.
pub fn parse_cpu_list(text: &str) -> Result<Vec<usize>, CpuListError> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|cpu| *cpu <= CPU_MAX);
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(CpuListError::Part(part.to_owned()));
        };
        if first > last {
            return Err(CpuListError::Part(part.to_owned()));
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(CpuListError::Twice(cpu));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

/// The shortest list of these CPUs, which ascend.
pub(super) fn ranges(cpus: &[usize]) -> String {
    let range = |run: &[usize]| match run {
        [only] => only.to_string(),
        run => format!("{}-{}", run[0], run[run.len() - 1]),
    };
    cpus.chunk_by(|a, b| a + 1 == *b).map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_their_order_and_written_short() {
        let check = |text, want: &[usize]| assert_eq!(parse_cpu_list(text).unwrap(), want, "{text}");
        check("", &[]);
        check(" \n", &[]);
        check("3", &[3]);
        check("0-3,8\n", &[0, 1, 2, 3, 8]);
        check("8, 1 - 2,1023", &[8, 1, 2, 1023]);
        assert_eq!(ranges(&[0, 1, 2, 4, 6, 7]), "0-2,4,6-7");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn broken_lists_are_refused_with_the_part_that_is_wrong() {
        let check = |text: &str, want: &str| {
            let error = parse_cpu_list(text).unwrap_err().to_string();
            assert!(error.starts_with(want), "{text}: {error}");
        };
        for part in ["x", "-1", "1-", "3-1", "1024", "0-99999999999999999999", "1.5"] {
            check(&format!("0,{part}"), &format!("{part:?} is not a CPU from 0 to 1023"));
        }
        check("1,", "\"\" is not a CPU");
        check("0-3,2", "CPU 2 is named twice");
    }
}
