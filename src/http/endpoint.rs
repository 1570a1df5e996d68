//! A path and its methods. HEAD goes with GET, OPTIONS tells what there is, and any other method is
//! answered 405 with the same.

use actix_web::http::{Method, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder};

use super::error::Problem;

/// A path that is being described.
pub struct Endpoint {
    resource: Resource,
    methods: Vec<&'static str>,
}

impl Endpoint {
    /// Begins with a path; `{name}` in it is a parameter.
    pub fn at(path: &str) -> Self {
        Self { resource: web::resource(path), methods: Vec::new() }
    }

    /// What GET and HEAD do.
    pub fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let with_get = self.method("GET", web::get().to(handler.clone()));
        with_get.method("HEAD", web::head().to(handler))
    }

    /// What POST does.
    pub fn post<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method("POST", web::post().to(handler))
    }

    /// What PUT does.
    pub fn put<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method("PUT", web::put().to(handler))
    }

    /// What PATCH does.
    pub fn patch<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method("PATCH", web::patch().to(handler))
    }

    /// What DELETE does.
    pub fn delete<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method("DELETE", web::delete().to(handler))
    }

    /// Reads bodies up to this many bytes instead of the ordinary limit.
    pub fn longest_body(self, bytes: usize) -> Self {
        Self { resource: self.resource.app_data(web::PayloadConfig::new(bytes)), methods: self.methods }
    }

    fn method(mut self, name: &'static str, route: actix_web::Route) -> Self {
        self.methods.push(name);
        Self { resource: self.resource.route(route), methods: self.methods }
    }

    /// Adds the path to the application.
    pub fn register(mut self, config: &mut ServiceConfig) {
        self.methods.push("OPTIONS");
        let allow = self.methods.join(", ");
        let options = allow.clone();
        let told = move || {
            let answer = HttpResponse::NoContent().insert_header((header::ALLOW, options.as_str())).finish();
            async { answer }
        };
        let refused = move || {
            let problem = Problem::method_not_allowed(allow.clone());
            async { Err::<HttpResponse, _>(problem) }
        };
        let resource = self.resource.route(web::method(Method::OPTIONS).to(told));
        config.service(resource.default_service(web::to(refused)));
    }
}
