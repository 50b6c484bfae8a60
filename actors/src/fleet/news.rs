//! Messages of a channel.

use super::link::{CONNECT, PING_EVERY, PONG};
use futures_util::StreamExt as _;
use redis::Client;
use redis::aio::{PubSubSink, PubSubStream};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Items that may wait for a receiver that is slow.
const WAITING: usize = 1024;
/// Between two attempts to subscribe.
const PAUSE: Duration = Duration::from_millis(250);

/// What a subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Subscribed, for the first time or again: what was sent before may be missing.
    Resubscribed,
    Payload(Vec<u8>),
}

/// Listens on a channel of its own connection, until the receiver is dropped.
pub(super) fn listen(client: Client, runtime: &Handle, channel: String) -> Receiver<News> {
    let (sender, receiver) = mpsc::channel(WAITING);
    runtime.spawn(async move {
        while !sender.is_closed() {
            let subscribed = timeout(CONNECT, subscribe(&client, &channel)).await;
            if let Ok(Ok((sink, stream))) = subscribed {
                pass(sink, stream, &sender).await;
            }
            sleep(PAUSE).await;
        }
    });
    receiver
}

async fn subscribe(client: &Client, channel: &str) -> redis::RedisResult<(PubSubSink, PubSubStream)> {
    let (mut sink, stream) = client.get_async_pubsub().await?.split();
    sink.subscribe(channel).await?;
    Ok((sink, stream))
}

/// Hands messages on until the connection ends or does not answer a ping.
async fn pass(mut sink: PubSubSink, mut stream: PubSubStream, to: &Sender<News>) {
    if to.send(News::Resubscribed).await.is_err() {
        return;
    }
    let mut missed = false;
    let mut tick = interval(PING_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = stream.next() => {
                let Some(message) = message else { return };
                // One who is too slow is told so instead of stopping the connection's pings.
                missed = missed && to.try_send(News::Resubscribed).is_err();
                missed = missed || to.try_send(News::Payload(message.get_payload_bytes().to_vec())).is_err();
            }
            _ = tick.tick() => {
                missed = missed && to.try_send(News::Resubscribed).is_err();
                let answered = timeout(PONG, sink.ping::<redis::Value>()).await;
                if to.is_closed() || !matches!(answered, Ok(Ok(_))) {
                    return;
                }
            }
            () = to.closed() => return,
        }
    }
}
