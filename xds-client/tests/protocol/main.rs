//! The client against a server that does what each test says, message by message. Streams run
//! within the process, so that tokio's paused clock decides about time.

mod control_plane;
mod delta;
mod file;
mod network;
mod reconnect;
mod script;
mod sotw;
mod state;
mod timers;
