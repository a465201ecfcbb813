# RETURNING old.*, new.* of foreign tables, which PostgreSQL has since version 18: the row as the statement has read it, and as
# the account has answered it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my ($major) = `pg_config --version` =~ /(\d+)/;
plan(skip_all => 'PostgreSQL 18 has RETURNING old and new') if $major < 18;

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\n");
LpUsers::connect_account($node, $sim);
my $session = LpUsers::session($node);
$session->query(q{SET client_min_messages = warning; CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users) FROM SERVER acme INTO lp});

subtest 'the row as it was read and as the account returned it' => sub {
	my $columns = 'login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids';
	is($session->query(qq{INSERT INTO lp.users ($columns) VALUES ('ann\@example.com', 'Ann', 'ann', 'ann\@example.com', 'Start-1234', true, 3, '{1001}')
		RETURNING old.id IS NULL, old.login_name IS NULL, new.id, new.login_name, new.password_sh IS NULL}), 't|t|4000000001|ann@example.com|t', 'INSERT');
	is($session->query(q{UPDATE lp.users SET nickname = 'anna', is_enabled = false, full_name = 'x' WHERE login_name ~ '^ann'
		RETURNING old.nickname, new.nickname, nickname, old.is_enabled, new.is_enabled, old.disabled_manually, new.disabled_manually, old.id = new.id}),
		'ann|anna|anna|t|f|f|t|t', 'UPDATE');
	is($session->query(q{UPDATE lp.users SET max_chats = old_chats.n, full_name = 'x' FROM (VALUES (7)) old_chats (n) RETURNING old.max_chats, new.max_chats}), '3|7', 'UPDATE FROM');
	is($session->query(q{DELETE FROM lp.users WHERE login_name ~ '^ann' RETURNING old.nickname, new.nickname IS NULL, old.max_chats}), 'anna|t|7', 'DELETE');
};

done_testing();
