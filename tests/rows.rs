//! Every endpoint of a node as a row of one table, and what has to hold for all of them: without a session,
//! without the permission, with every field left out, of every wrong type or too long, with a body that is
//! no JSON object, and done right. A refusal has the one form of errors and changes nothing: the whole
//! database is compared before and after.
//!
//! A new endpoint gets a row in `table/`; [`cases`] makes the requests out of it.

mod cases;
mod check;
mod complete;
mod row;
mod scene;
mod table;

use check::hold;

#[tokio::test(flavor = "multi_thread")]
async fn every_row_about_accounts_holds() {
    hold(table::accounts::rows()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_about_administration_holds() {
    hold(table::admin::rows()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_about_sessions_holds() {
    hold(table::sessions::rows()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_about_ones_identity_holds() {
    hold(table::identity::rows()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_for_existing_clients_holds() {
    hold(table::legacy_client::rows()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_about_what_is_sealed_holds() {
    hold(table::sealed::rows()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_about_friends_holds() {
    hold(table::friends::rows()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_about_sharing_holds() {
    hold(table::sharing::rows()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_that_anybody_may_call_holds() {
    hold(table::public::rows()).await;
}
