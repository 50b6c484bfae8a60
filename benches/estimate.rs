//! What it costs to know how many tokens a prompt has: reading the body, and the estimate.

use divan::{Bencher, black_box};
use obleth::wire::{Route, Shape};
use obleth_core::token_budget::BytesPerToken;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

fn body(bytes: usize) -> Vec<u8> {
    let text = "word ".repeat(bytes / 5);
    format!(r#"{{"model":"m","max_tokens":100,"messages":[{{"role":"user","content":"{text}"}}]}}"#)
        .into_bytes()
}

fn tokens(ratio: BytesPerToken, shape: &Shape) -> u64 {
    ratio.tokens(shape.weight.text_bytes) + shape.weight.token_ids
}

/// The estimate alone, of a body that has been read.
#[divan::bench]
fn estimate(bencher: Bencher<'_, '_>) {
    let ratio = BytesPerToken::default().learn(3_000, 900);
    let Ok(shape) = Shape::read(Route::ChatCompletions, &body(1024)) else { return };
    bencher.bench(|| tokens(black_box(ratio), black_box(&shape)));
}

/// With the reading of the body.
#[divan::bench(args = [1 << 10, 16 << 10])]
fn read_and_estimate(bencher: Bencher<'_, '_>, bytes: usize) {
    let (ratio, body) = (BytesPerToken::default(), body(bytes));
    bencher
        .bench(|| Shape::read(Route::ChatCompletions, black_box(&body)).map(|shape| tokens(ratio, &shape)));
}
