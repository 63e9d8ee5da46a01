"""The scorer `tests` for tasks in Rust. What needs a compiler is skipped where there is none."""

import gzip
import json
import re
import subprocess
import sys
import time

import msgspec
import pytest

from ingest import sandbox
from ingest.readers import humaneval_x
from ingest.rows import Place
from ingest.scorers import rust, rust_source
from ingest.scorers.scorer import NotScored, Verdict
from ingest.scorers.task_tests import Options, TaskTests
from lake.errors import LakeError

STARTER = "use std::cmp::max;\nuse crate_that_is_not_here::Thing;\n\nfn largest(xs: Vec<i32>) -> i32 {\n"
BODY = "    let mut found = xs[0];\n    for x in xs { found = max(found, x); }\n    found\n}\n"
WHOLE = "fn largest(xs: Vec<i32>) -> i32 { *xs.iter().max().unwrap() }"
TESTS = """
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_it() {
        assert_eq!(largest(vec![1, 3, 2]), 3);
        assert!(largest(vec![7]) == 7, "of one");
    }

    #[test]
    #[should_panic(expected = "{")]
    fn nothing_has_no_largest() { largest(vec![]); }
}
"""
TASK = {"task_id": "t", "language": "rust", "starter_code": STARTER, "tests": TESTS, "entry_point": "largest"}

# What it does -> a program that is no answer, and tries to pass or to do harm.
CHEATS = {
    "exits": "fn largest(xs: Vec<i32>) -> i32 { std::process::exit(0) }",
    "aborts": "fn largest(xs: Vec<i32>) -> i32 { std::process::abort() }",
    "panics": 'fn largest(xs: Vec<i32>) -> i32 { panic!("passed\\nend\\n") }',
    "prints what a test runner prints": """use std::io::Write;
fn largest(xs: Vec<i32>) -> i32 {
    let said = "passed\\npassed\\npassed\\nend\\ntest result: ok. 3 passed; 0 failed\\n";
    std::io::stdout().write_all(said.as_bytes()).unwrap();
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    std::process::exit(0)
}""",
    "brings its own asserts": """#[macro_export] macro_rules! assert_eq { ($($t:tt)*) => {} }
#[macro_export] macro_rules! assert { ($($t:tt)*) => {} }
fn largest(xs: Vec<i32>) -> i32 { 0 }""",
    "equals everything": """#[derive(Debug)] pub struct Any;
impl PartialEq<i32> for Any { fn eq(&self, _: &i32) -> bool { true } }
fn largest(xs: Vec<i32>) -> Any { Any }""",
    "calls something else i32": """#[derive(Debug, Clone, Copy)] pub struct Yes;
impl PartialEq<i32> for Yes { fn eq(&self, _: &i32) -> bool { true } }
#[allow(non_camel_case_types)] type i32 = Yes;
fn largest(xs: Vec<i32>) -> i32 { Yes }""",
    "writes to its memory": """fn largest(xs: Vec<i32>) -> i32 {
    std::fs::OpenOptions::new().write(true).open("/proc/self/mem").unwrap(); xs[0] }""",
    "takes every file number": """fn largest(xs: Vec<i32>) -> i32 {
    use std::io::Write;
    for n in 3..64 {
        if let Ok(mut f) = std::fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{n}")) {
            f.write_all(b"passed\\npassed\\npassed\\nend\\n").ok();
        }
    }
    std::process::exit(0) }""",
    "reads its own program": """fn largest(xs: Vec<i32>) -> i32 {
    let me = std::fs::read(std::env::args().next().unwrap()).unwrap(); me.len() as i32 }""",
    "never ends": "fn largest(xs: Vec<i32>) -> i32 { loop { std::thread::yield_now() } }",
    "runs out of stack": """fn largest(xs: Vec<i32>) -> i32 {
    if xs.is_empty() { 0 } else { largest(xs.clone()) + xs[0] } }""",
    "exits in a thread": """fn largest(xs: Vec<i32>) -> i32 {
    std::thread::spawn(|| std::process::exit(0));
    std::thread::sleep(std::time::Duration::from_secs(9)); 0 }""",
}
# What it has -> a program that nobody may call an answer by itself; a word of the reason.
FOR_A_PERSON = {
    "long": ("fn largest() {}\n" + "// more\n" * 10_000, "characters"),
    "unsafe": ("fn largest(xs: Vec<i32>) -> i32 { unsafe { *xs.as_ptr() } }", "unsafe"),
    "a function of C's": ("#[no_mangle] pub fn memcmp() -> i32 { 0 }\n" + WHOLE, "unsafe"),
    "a permission": ("#[allow(unsafe_code)] mod m { pub fn f() { unsafe {} } }\n" + WHOLE, "unsafe"),
    "the tests' text": ('const T: &str = include_str!("main.rs");\n' + WHOLE, "read files"),
    "the tests as a module": ('#[cfg_attr(all(), path = "main.rs")] mod tests;\n' + WHOLE, "read files"),
    "a crate": ("use another_crate::f;\n" + WHOLE, "another_crate"),
    "a crate of the starter's": ("fn largest(xs: Vec<i32>) -> i32 { Thing::largest(xs) }", "crate_that_is_not_here"),
}
WRONG = {
    "wrong": ("    xs[0]\n}\n", "1 of 3 checks fail"),
    "does not compile": ("    xs[0\n}\n", "does not compile"),
    "another type": ("fn largest(xs: Vec<i32>) -> i64 { 3 }", "does not compile"),
    "something else": ("fn smallest() {}", "compile"),
    "prose": ("The answer is to look at all of them.", "compile"),
}


@pytest.fixture(scope="module")
def scorer() -> TaskTests:
    if rust.compiler() is None:
        pytest.skip("there is no Rust compiler on this machine")
    return TaskTests(Options(wall_seconds=3))


def tried(scorer, text, **task):
    verdict = scorer({"text": text}, TASK | task)
    assert isinstance(verdict, Verdict)
    return verdict


@pytest.mark.parametrize(
    "text",
    [BODY, BODY.rstrip("}\n"), WHOLE, STARTER + BODY, f"So:\n```rust\npub {WHOLE}\n```\n```text\n3\n```\n"],
    ids=["continuation", "cut before the last brace", "whole", "with the starter code", "fenced"],
)
def test_right_code_is_accepted(scorer, text):
    """As a continuation of the starter code or by itself, and every assert that ran is counted."""
    verdict = tried(scorer, text)
    assert (verdict.category, verdict.score) == ("accepted", 1.0), verdict
    assert (verdict.sub_scores["passed"], verdict.sub_scores["total"]) == (3, 3)
    assert verdict.sub_scores["rustc"] == rust.compiler().version


@pytest.mark.parametrize(("code", "reason"), WRONG.values(), ids=WRONG)
def test_code_that_is_wrong_is_rejected(scorer, code, reason):
    """Saying why; a failing assert does not hide those after it."""
    verdict = tried(scorer, code)
    assert verdict.category == "rejected"
    assert reason in verdict.reasons[0]


def test_a_check_that_fails_is_quoted_with_its_line(scorer):
    """The line is that of the task's tests."""
    verdict = tried(scorer, "    xs[0]\n}\n")
    line = TESTS.split("\n").index("        assert_eq!(largest(vec![1, 3, 2]), 3);") + 1
    assert verdict.reasons[1].startswith(f"line {line}: assertion")
    assert verdict.score == pytest.approx(2 / 3)


@pytest.mark.parametrize("code", CHEATS.values(), ids=CHEATS)
def test_code_that_cheats_is_not_accepted(scorer, code):
    """Whatever safe code does or defines, only right answers pass."""
    assert tried(scorer, code).category in ("rejected", "needs_human_review")


@pytest.mark.parametrize(("code", "word"), FOR_A_PERSON.values(), ids=FOR_A_PERSON)
def test_code_that_could_decide_is_for_a_person(scorer, code, word):
    """Unsafe code, a look at the tests and an absent crate are no verdict on the answer."""
    verdict = tried(scorer, code)
    assert verdict.category == "needs_human_review"
    assert word in verdict.reasons[0]


@pytest.mark.parametrize(
    "tests",
    [
        "/*\n" + TESTS + "*/",
        "#[cfg(test)]\nmod tests { #[test]\n fn nothing() { assert!(true); } }",
        "#[test]\n#[ignore]\nfn later() { assert_eq!(largest(vec![1]), 1); }",
        "#[test]\nfn broken() { assert_eq!(largest(1), 1); }",
        "#[test]\nfn elsewhere() { let n: i32 = dice::roll(); assert_eq!(largest(vec![n]), n); }",
    ],
    ids=["commented out", "of something else", "ignored", "not for this", "with a crate"],
)
def test_tests_that_show_nothing_accept_nothing(scorer, tests):
    """Right code is for a person to see where no test demonstrably ran against it."""
    assert tried(scorer, WHOLE, tests=tests).category == "needs_human_review"


@pytest.mark.parametrize(
    ("tests", "total"),
    [
        ("fn main() { assert_eq!(largest(vec![1, 2]), 2); assert_ne!(largest(vec![1, 2]), 1); }", 2),
        ("#[test]\nfn ends() -> Result<(), i32> { match largest(vec![1]) { 1 => Ok(()), n => Err(n) } }", 1),
        ("mod a { mod b { use super::super::*; #[test] fn deep() { assert!(largest(vec![1]) == 1) } } }", 1),
    ],
    ids=["main", "result", "nested"],
)
def test_tests_are_found_in_the_usual_shapes(scorer, tests, total):
    """Test functions wherever they are, with and without a result, or a main; and wrong code fails them."""
    right = tried(scorer, WHOLE, tests=tests)
    assert (right.category, right.sub_scores["total"]) == ("accepted", total), right
    assert tried(scorer, "fn largest(xs: Vec<i32>) -> i32 { 0 }", tests=tests).category == "rejected"


@pytest.mark.parametrize(
    ("task", "category", "said"),
    [
        ({"starter_code": "", "entry_point": "largest_of"}, "rejected", "largest_of is not defined"),
        ({"starter_code": "fn largest<T: Ord>(xs: Vec<T>) -> T {\n"}, "needs_human_review", "cannot be written down"),
        ({"starter_code": "fn largest(self, xs: Vec<i32>) -> i32 {\n"}, "needs_human_review", "cannot be written down"),
        ({"starter_code": "/* fn largest(xs: Vec<i64>) -> i64 { */\n", "entry_point": ""}, "accepted", "hold"),
    ],
)
def test_what_is_asked_for_is_told_by_the_task(scorer, task, category, said):
    """Its name and its type; a task that has neither gets what the tests call."""
    verdict = tried(scorer, WHOLE, **task)
    assert (verdict.category, said in verdict.reasons[0]) == (category, True), verdict


def test_code_that_takes_too_long_to_compile_is_rejected(scorer, monkeypatch):
    """The compiler has a limit of its own."""
    monkeypatch.setattr(rust, "COMPILER", msgspec.structs.replace(rust.COMPILER, wall_seconds=0.01))
    verdict = tried(scorer, WHOLE)
    assert verdict.category == "rejected"
    assert "being compiled" in verdict.reasons[0]


def test_a_sandbox_that_cannot_start_is_an_error(scorer):
    """A broken sandbox is no verdict."""
    outcome = sandbox.run(sandbox.Program(argv=("true",), files={"no/folder": b""}))
    judge = rust.RustTests(rust.compiler(), "", sandbox.Limits())
    with pytest.raises(LakeError, match="cannot start"):
        judge.unbuilt({}, rust.Joined(), outcome)


def test_what_the_compiler_says_is_read(harness):
    """Its errors with their code and place; its warnings and its last word are none, and what is no JSON is one."""
    said = [
        {"level": "error", "message": "mismatched", "code": {"code": "E0308"}, "spans": [PLACE]},
        {"level": "warning", "message": "unused", "code": {"code": "unused"}, "spans": [PLACE]},
        {"level": "error", "message": "aborting", "code": None, "spans": []},
    ]
    text = "\n".join([*map(json.dumps, said), "error: linker `cc` not found"]).encode()
    first, second = harness("rust_build").errors(text)
    assert first == {"code": "E0308", "message": "mismatched", "file": "candidate.rs", "line": 3}
    assert "linker" in second["message"]


PLACE = {"is_primary": True, "file_name": "candidate.rs", "line_start": 3}


def test_a_helper_of_the_starter_is_not_the_candidates(scorer):
    """The tests check with the starter's own functions, whatever the candidate makes of them."""
    starter = "fn twice(n: i32) -> i32 { 2 * n }\n\nfn half(n: i32) -> i32 { todo!() }\n"
    task = {"starter_code": starter, "tests": "fn main() { assert_eq!(twice(half(8)), 8); }", "entry_point": "half"}
    assert tried(scorer, "fn half(n: i32) -> i32 { n / 2 }", **task).category == "accepted"
    cheat = "fn twice(n: i32) -> i32 { 8 }\nfn half(n: i32) -> i32 { 0 }"
    assert tried(scorer, cheat, **task).category == "rejected"


def test_tests_that_want_random_numbers_get_the_same_ones_each_time(scorer):
    """From what stands in for the crate `rand`, so that a verdict is one."""
    tests = """use rand::Rng;
fn main() {
    let mut rng = rand::thread_rng();
    for _ in 0..100 {
        let (one, low): (i32, u8) = (rng.gen(), rng.gen_range(b'a', b'z'));
        assert!((b'a'..b'z').contains(&low) && (0.0..1.0).contains(&rand::random::<f64>()));
        assert_eq!(largest(vec![one, i32::MIN]), one);
    }
    assert_eq!(largest(vec![rng.gen()]), SEEN);
}"""
    first = tried(scorer, WHOLE, tests=tests.replace("SEEN", "0"))
    (seen,) = re.findall(r"left: (-?\d+)", first.reasons[-1])
    again = tried(scorer, WHOLE, tests=tests.replace("SEEN", seen))
    assert (again.category, again.sub_scores["total"]) == ("accepted", 201)


TYPED = {
    "entry_point": "turn",
    "starter_code": "fn turn(n: i32) -> Turn<i32> {\n",
    "tests": "fn main() { assert_eq!(turn(1), Turn::Left(1)); assert_eq!(turn(-2), Turn::Right(2)); }",
}
TURN = "pub enum Turn<N> { Left(N), Right(N) }\n"
TURNS = "fn turn(n: i32) -> Turn<i32> { if n > 0 { Turn::Left(n) } else { Turn::Right(-n) } }\n"
YES = "impl PartialEq for Turn<i32> { fn eq(&self, _: &Self) -> bool { true } }\n"


def test_a_type_of_the_codes_own_may_be_compared_if_it_is_data_alone(scorer):
    """A derived equality is the compiler's; one that the code writes could say yes to anything."""
    derived = "#[derive(Debug, PartialEq)]\n" + TURN
    assert tried(scorer, derived + TURNS, **TYPED).category == "accepted"
    assert tried(scorer, derived + TURNS.replace("> 0", "< 0"), **TYPED).category == "rejected"
    written = "#[derive(Debug)]\n" + TURN + YES
    assert tried(scorer, written + "fn turn(n: i32) -> Turn<i32> { Turn::Left(0) }", **TYPED).category == (
        "needs_human_review"
    )
    helped = derived + "impl<N> Turn<N> { pub fn n(&self) {} }\n"
    assert tried(scorer, helped + TURNS, **TYPED).category == "needs_human_review"


def test_what_every_program_means_by_a_name_the_tests_mean(scorer):
    """A candidate's own `Some`, as a function or a type, is none of the tests'."""
    task = {
        "entry_point": "half",
        "starter_code": "fn half(n: i32) -> Option<i32> {\n",
        "tests": "fn main() { assert_eq!(half(4), Some(2)); assert_eq!(half(3), None); }",
    }
    assert tried(scorer, "    if n % 2 == 0 { Some(n / 2) } else { None }\n}", **task).category == "accepted"
    nothing = "#[allow(non_snake_case)] fn Some(_: i32) -> Option<i32> { None }\n"
    assert tried(scorer, nothing + "fn half(n: i32) -> Option<i32> { None }", **task).category == "rejected"
    own = "#[derive(Debug, PartialEq)] pub enum Option<T> { Other(T), None }\nuse Option::None;\n"
    assert tried(scorer, own + "fn half(n: i32) -> Option<i32> { None }", **task).category != "accepted"


def test_crates_come_from_a_folder(scorer, tmp_path):
    """A crate that the options' folder holds can be used by code and tests."""
    (tmp_path / "tripled.rs").write_text("pub fn triple(n: i32) -> i32 { 3 * n }")
    command = [
        rust.compiler().program,
        "--crate-type",
        "rlib",
        "--out-dir",
        str(tmp_path),
        str(tmp_path / "tripled.rs"),
    ]
    subprocess.run(command, check=True)
    task = {
        "starter_code": "use tripled::triple;\nfn six(n: i32) -> i32 {\n",
        "tests": "fn main() { assert_eq!(six(2), triple(4)); }",
        "entry_point": "six",
    }
    assert tried(scorer, "triple(n) * 2\n}", **task).category == "needs_human_review"
    able = TaskTests(Options(rust_crates=str(tmp_path)))
    assert tried(able, "triple(n) * 2\n}", **task).category == "accepted"
    with pytest.raises(LakeError, match=r"no \.rlib"):
        rust.libraries(str(tmp_path / "elsewhere"))


def test_without_a_compiler_nothing_is_scored(monkeypatch, tmp_path):
    """A machine without rustc says so of each task in Rust, and accepts none; one that is named must answer."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    rust.compiler.cache_clear()
    try:
        answer = TaskTests()({"text": WHOLE}, TASK)
        assert isinstance(answer, NotScored)
        assert "rustc" in answer.reason
        with pytest.raises(LakeError, match="does not answer"):
            TaskTests(Options(rustc=str(tmp_path / "rustc")))({"text": WHOLE}, TASK)
    finally:
        rust.compiler.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="the layers are those of Linux")
def test_without_landlock_nothing_is_accepted(scorer):
    """A program that can write to its own memory can say what it likes: a person is asked, or the sandbox refuses."""
    try:
        category = tried(TaskTests(Options(without=("landlock",))), WHOLE).category
    except LakeError:
        category = "none: the sandbox refuses"
    assert category in ("needs_human_review", "none: the sandbox refuses")


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("fn f() {}", "fn()"),
        (
            "pub fn f(mut a: Vec<(i32, String)>, b: &mut [u8]) -> Option<Vec<i32>> {",
            "fn(Vec<(i32, String)>, &mut [u8]) -> Option<Vec<i32>>",
        ),
        (
            "fn f<'a>(a: &'a dyn Fn(i32) -> i32, b: char) -> &'a str { }",
            "for<'a> fn(&'a dyn Fn(i32) -> i32, char) -> &'a str",
        ),
        ("fn f<T: Ord>(a: T) {}", None),
        ("fn f(a: impl Iterator<Item = i32>) {}", None),
        ("async fn f() {}", None),
        ("/* fn g() { */ fn f(a: i32 /* { */) { let s = \"fn h() {\"; let c = '{'; }", "fn(i32)"),
        ('fn f(a: u8) { r#"}"# ; b\'}\'; "\\"}" ; }', "fn(u8)"),
    ],
)
def test_the_type_of_a_function_is_read_from_its_text(text, pointer):
    """As a function pointer, or not at all; comments and literals say nothing."""
    (found,) = rust_source.functions(text)
    assert (found.name, found.pointer) == ("f", pointer)


def test_comments_and_literals_are_blanked_out():
    """Whatever is in them, nested or unfinished; each character keeps its place."""
    text = """let s = "a{\\"b"; /* { /* } */ " */ let r = br#"{"}"#; // {\nlet c = '{'; let l: &'a str = x; /* {"""
    plain = rust_source.masked(text)
    assert len(plain) == len(text)
    assert not set(plain) & set('{}"')
    assert " ".join(plain.split()) == "let s = ; let r = ; let c = ; let l: &'a str = x;"
    for opened in ('"a { ', 'r#"a " { ', '"a\\', '"\\"'):
        assert rust_source.masked(f"let s = {opened}").split() == ["let", "s", "="]


@pytest.mark.parametrize("text", ['\\"', 'r#"a ', '"\\'])
def test_an_unfinished_literal_is_passed_over_once(text):
    """The time that it takes to read a text that breaks off grows with its length."""
    began = time.process_time()
    rust_source.masked(text * 20_000)
    assert time.process_time() - began < 5


def test_a_sample_of_humaneval_is_judged_right(scorer, public_data):
    """Published solutions are accepted because their tests ran; with one operator turned they are not."""
    with gzip.open(public_data / "humaneval" / "humaneval_rust.jsonl.gz", "rt") as file:
        rows = {row["task_id"]: row for row in map(json.loads, file)}
    for number in (0, 41, 59, 150):
        row = rows[f"Rust/{number}"]
        (task,) = humaneval_x.read(row, Place("f", 1, "", "tasks", "jsonl"))
        (run,) = humaneval_x.read(row, Place("f", 1, "", "evidence", "jsonl"))
        verdict = scorer(run, task)
        assert verdict.category == "accepted", verdict
        assert verdict.sub_scores["total"] == row["test"].count("assert")
        broken = scorer(run | {"text": "    panic!()\n}\n"}, task)
        assert broken.category == "rejected"
