//! What the tests do with a database server, whichever it is.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::database::Database;
use super::mariadb::MariaDb;
use super::postgres::Postgres;

pub trait Server: Sized + 'static {
    /// The server that all tests of a binary share.
    fn shared() -> &'static Self;
    /// A server of one's own, to be killed.
    fn start() -> Self;
    /// The same, with more command line options.
    fn start_with(arguments: &[&str]) -> Self;
    fn start_again(&self);
    fn kill9(&self);
    fn database(&self) -> Database;
    fn administer(&self, sql: &str);
    fn address(&self) -> SocketAddr;
    /// What DB_SOCKET is to say.
    fn socket_setting(&self) -> PathBuf;
}

macro_rules! server {
    ($server:ident, $socket:ident) => {
        impl Server for $server {
            fn shared() -> &'static $server {
                $server::shared()
            }

            fn start() -> $server {
                $server::start()
            }

            fn start_with(arguments: &[&str]) -> $server {
                $server::start_with(arguments)
            }

            fn start_again(&self) {
                $server::start_again(self);
            }

            fn kill9(&self) {
                $server::kill9(self);
            }

            fn database(&self) -> Database {
                $server::database(self)
            }

            fn administer(&self, sql: &str) {
                $server::administer(self, sql);
            }

            fn address(&self) -> SocketAddr {
                $server::address(self)
            }

            fn socket_setting(&self) -> PathBuf {
                self.$socket().to_owned()
            }
        }
    };
}

server!(MariaDb, socket);
server!(Postgres, folder);

/// A test for each server out of each function that is generic over [`Server`], in modules named like the servers.
#[macro_export]
macro_rules! on_both_servers {
    ($($test:ident)*) => {
        mod mariadb {
            $(#[test] fn $test() { super::$test::<super::support::mariadb::MariaDb>(); })*
        }
        mod postgres {
            $(#[test] fn $test() { super::$test::<super::support::postgres::Postgres>(); })*
        }
    };
}
