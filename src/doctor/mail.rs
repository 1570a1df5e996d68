//! Letters: whether the mail server takes them.

use super::Finding;
use crate::config::Settings;
use crate::data_dir::DataDir;
use crate::mail::Post;

pub async fn check(settings: &Settings) -> Finding {
    if settings.mail.smtp_url.is_none() {
        let says = "no mail server is set: letters with sign-in codes are files in the outbox folder";
        return Finding::doubtful("mail", says, "set mail.smtp_url, unless nobody but you signs in");
    }
    let advice = "see mail.smtp_url: scheme, name, user and password";
    let post = Post::new(&settings.mail, DataDir::at(&settings.data_dir).outbox(), "vellum");
    match post {
        Ok(post) => match post.can_send().await {
            Ok(true) => Finding::well("mail", "the mail server answers"),
            Ok(false) => Finding::broken("mail", "the mail server does not take anything", advice),
            Err(error) => Finding::broken("mail", format!("{error:#}"), advice),
        },
        Err(error) => Finding::broken("mail", format!("{error:#}"), advice),
    }
}
