# No transaction of a user keeps a deliverer waiting: what it has locked is passed over, by housekeeping, take-over, claim
# and settlement, and the other rows go on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\n");

LpUsers::connect_account($node, $sim);

my $clerk     = LpUsers::session($node);
my $deliverer = LpUsers::session($node);

# A wait for a lock would end here with an error.
$deliverer->query("SET lock_timeout = '10s'; SET client_min_messages = warning");

sub q1 { my ($sql) = @_; return $node->safe_psql('postgres', $sql); }
sub enqueue { return q1("SELECT lp_enqueue_users('12345678', '[" . join(',', map { LpUsers::user($_) } @_) . "]')"); }
sub state_of { my ($name) = @_; return q1("SELECT state FROM lp_requests WHERE login_name = '$name\@example.com'"); }
sub id_of { my ($name) = @_; return q1("SELECT id FROM lp_requests WHERE login_name = '$name\@example.com'"); }

# Deliver in the deliverer's session; fails if it waits for a lock.
sub deliver
{
	my ($name) = @_;
	my ($out, $err) = $deliverer->run('CALL lp_deliver()');

	unlike($err, qr/ERROR/, "$name: the delivery does not wait");
	return;
}

# The clerk locks rows until this is called.
sub let_go { $clerk->query('ROLLBACK'); return; }

subtest 'housekeeping skips locked rows' => sub {
	# Housekeeping: an old secret that is being discarded, and an old request that is locked.
	enqueue('old1', 'old2', 'old3');
	q1("UPDATE lp_requests SET state = 'failed', cause = 'refused', next_attempt_at = NULL, finished_at = now() - interval '2 days'");
	q1("UPDATE lp_requests SET finished_at = now() - interval '1 year' WHERE login_name ~ 'old3'");
	$clerk->query('BEGIN; SELECT lp_discard(ARRAY[' . id_of('old1') . ']); SELECT FROM lp_requests WHERE id = ' . id_of('old3') . ' FOR UPDATE');
	enqueue('new1');
	deliver('housekeeping');
	is(state_of('new1'), 'created', 'housekeeping: what is due is delivered');
	is(q1('SELECT string_agg(r.login_name, \' \' ORDER BY r.id) FROM lp_payloads p JOIN lp_requests r ON r.id = p.request_id'), 'old1@example.com old3@example.com',
		'housekeeping: the secrets of locked requests stay for the next time, those of others are gone');
	let_go();
	deliver('housekeeping again');
	is(q1('SELECT count(*) FROM lp_payloads'), 0, 'housekeeping again: now they are gone');
	is(state_of('old3'), '', 'housekeeping again: and so is the old request');
	q1('DELETE FROM lp_requests');
};

subtest 'claim skips locked rows' => sub {
	# Claim: a row that is being discarded, also if it is only referred to.
	enqueue('one', 'two', 'three');
	q1('CREATE TABLE note (request bigint REFERENCES lp_requests (id))');
	$clerk->query('BEGIN; SELECT lp_discard(ARRAY[' . id_of('one') . ']); INSERT INTO note VALUES (' . id_of('two') . ')');
	deliver('claim');
	is(state_of('one'), 'pending', 'claim: a row that is being discarded waits');
	is(state_of('three'), 'created', 'claim: another is delivered');
	let_go();
	deliver('claim again');
	is(state_of($_), 'created', "claim again: $_ is delivered") foreach qw(one two);
	q1('DROP TABLE note; DELETE FROM lp_requests');
};

subtest 'settlement and take-over skip locked rows' => sub {
	# Settlement: the answer is kept until the row is free; $who settles it then.
	foreach my $who ('the same session', 'another session')
	{
		my ($locked, $free) = $who =~ /same/ ? ('kept', 'beside') : ('lost', 'other');

		$sim->post('faults', { method => 'POST', action => 'delay', ms => 1500, login => "$locked\@example.com" });
		enqueue($locked, $free);
		$deliverer->send('CALL lp_deliver()');
		LpUsers::wait_for(sub { state_of($locked) eq 'sending' }, 'the claim');
		$clerk->query("BEGIN; SELECT FROM lp_requests WHERE id = " . id_of($locked) . " FOR UPDATE");
		my ($out, $err) = $deliverer->take;
		unlike($err, qr/ERROR/, "settlement, $who: the delivery does not wait");
		is(state_of($free), 'created', "settlement, $who: another row of the batch is settled");
		is(state_of($locked), 'sending', "settlement, $who: the locked one is not");
		$sim->remove('faults');
		# take-over meets the locked row, too, and ends
		is(q1("SET lock_timeout = '10s'; SET client_min_messages = warning; CALL lp_deliver(); SELECT 1"), 1, "take-over, $who: another deliverer passes over it");
		is(state_of($locked), 'sending', "take-over, $who: it stays");
		let_go();
		if ($who =~ /same/)
		{
			deliver('settlement of what was kept');
			is(q1("SELECT state, evidence, user_id IS NOT NULL FROM lp_requests WHERE login_name = '$locked\@example.com'"), 'created|answer|t',
				'settlement of what was kept: by the answer');
			next;
		}
		q1('SET client_min_messages = warning; CALL lp_deliver()');
		is(state_of($locked), 'uncertain', 'another session does not know the answer');
		q1("UPDATE lp_requests SET next_attempt_at = now() WHERE state = 'uncertain'");
		q1('SET client_min_messages = warning; CALL lp_deliver()');
		is(q1("SELECT state, evidence FROM lp_requests WHERE login_name = '$locked\@example.com'"), 'created|lookup', 'it looks it up');
		# what is still kept comes too late and changes nothing
		deliver('a kept answer of a settled row');
		is(q1("SELECT state, evidence FROM lp_requests WHERE login_name = '$locked\@example.com'"), 'created|lookup', 'a kept answer of a settled row changes nothing');
	}
	is($sim->count(method => 'POST', login => "$_\@example.com"), 1, "$_ was sent once") foreach qw(kept lost beside other);
	q1('DELETE FROM lp_requests');
};

subtest 'lp_adopt() and a delivery do not wait for each other' => sub {
	# lp_adopt() beside a delivery of the same login: neither waits for the other, nothing is sent twice.
	enqueue('twin', 'single');
	q1("UPDATE lp_requests SET origin = '1/2/3', state = 'held', hold = 'elsewhere', next_attempt_at = NULL WHERE login_name ~ 'twin'");
	enqueue('filler');
	q1("UPDATE lp_requests SET login_name = 'Twin\@example.com' WHERE login_name ~ 'filler'");
	q1("UPDATE lp_payloads SET body = '" . LpUsers::user('Twin') . "' WHERE request_id = " . id_of('Twin'));
	$clerk->query('BEGIN; SELECT lp_adopt()');
	deliver('beside lp_adopt()');
	is(state_of('Twin'), 'created', 'beside lp_adopt(): the login is delivered');
	is(state_of('single'), 'created', 'beside lp_adopt(): and others');
	$clerk->query('COMMIT');
	q1("UPDATE lp_requests SET next_attempt_at = now() WHERE state = 'pending'");
	deliver('after lp_adopt()');
	is(state_of('twin'), 'failed', 'after lp_adopt(): the other request for it finds the login taken');
	is($sim->text('created') + 0, $sim->text('created') + 0, 'the account answers');
};

is($sim->text('duplicates') =~ s/\s//gr, '[]', 'nothing was created twice');

subtest 'a row that cannot be claimed is held' => sub {
	# A row that cannot be claimed is held; one that can neither be claimed nor held is passed over, with one WARNING.
	q1('DELETE FROM lp_requests');
	q1(q{CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.login_name ~ 'bad1' AND NEW.state = 'sending' OR NEW.login_name ~ 'bad2' THEN RAISE 'no %', NEW.login_name; END IF;
			RETURN NEW; END $$;
		CREATE TRIGGER no BEFORE UPDATE ON lp_requests FOR EACH ROW EXECUTE FUNCTION no()});
	enqueue('good1', 'bad1', 'bad2', 'good2');
	my (undef, $said) = $deliverer->run('CALL lp_deliver()');
	is(() = $said =~ /WARNING:.*request \d+ is passed over: no bad2\@example\.com/g, 1, 'a row that cannot be held: one WARNING') or diag($said);
	(undef, $said) = $deliverer->run('CALL lp_deliver()');
	unlike($said, qr/passed over/, '... and no other');
	is(q1('SELECT split_part(login_name, \'@\', 1), state, hold, reason FROM lp_requests ORDER BY id'),
		join("\n", 'good1|created||', 'bad1|held|setup|the row cannot be claimed: no bad1@example.com', 'bad2|pending||', 'good2|created||'),
		'the row is held, the others are created');
	q1('DROP TRIGGER no ON lp_requests');
	is(q1("SELECT lp_release(ARRAY[" . id_of('bad1') . "])"), 1, 'it can be released by its id');
	$deliverer->quit;
	$clerk->quit;
	q1('SET client_min_messages = warning; CALL lp_deliver()');
	is(state_of($_), 'created', "$_ is delivered when the trigger is gone") foreach qw(bad1 bad2);
};

done_testing();
