//! The empty answers for existing clients.

use reqwest::Method;

use crate::rows::row::{Row, row};

pub fn rows() -> Vec<Row> {
    let private =
        ["/integrations/available", "/vehicles", "/vehicles/", "/library/layers", "/library/layers/groups"];
    let lists = private.map(|path| row(Method::GET, path).answers_list());
    let public = [
        row(Method::GET, "/integrations/configured").anyone().answers_list(),
        row(Method::GET, "/subscriptions/config").anyone().answers(200, &["enabled", "billingEnabled"]),
    ];
    lists.into_iter().chain(public).collect()
}
