//! Other people's control planes: the same story over go-control-plane, java-control-plane and the types that gRPC's Python
//! project publishes, in every form of the protocol. `.ci/install-tools` builds them from `tests/peers`; one that is not there is
//! left out, and the test says so.

mod plane;
mod story;

use plane::Maker;
use story::Form;

/// Tells the story in these forms, and reports who is missing.
async fn tell(maker: Maker, forms: &[Form]) {
    if !maker.is_there() {
        eprintln!("did not run: {maker:?} is not in target/tools/peers, see .ci/install-tools");
        return;
    }
    for form in forms {
        story::tell(maker, *form).await;
    }
}

const STREAMS: [Form; 4] = [Form::AdsSotw, Form::AdsDelta, Form::Sotw, Form::Delta];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_control_plane_is_followed_over_streams() {
    tell(Maker::Go, &STREAMS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_control_plane_is_followed_over_rest() {
    tell(Maker::Go, &[Form::Rest]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn java_control_plane_is_followed_over_streams() {
    tell(Maker::Java, &STREAMS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_in_python_is_followed_over_streams() {
    tell(Maker::Python, &STREAMS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_in_python_is_followed_over_rest() {
    tell(Maker::Python, &[Form::Rest]).await;
}
