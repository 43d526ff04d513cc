"""Mail against a real SMTP server: STARTTLS, login, templates, refusals, and texts that want to be headers."""

from __future__ import annotations

import email
import email.policy

import pytest
from tests.notify.conftest import Mailbox, put

from qanat.errors import ConfigError
from qanat.model.sinks import Email
from qanat.notify.email import open_email


@pytest.fixture
def mailbox():
    boxes = []

    def begin(**more):
        boxes.append(Mailbox(**more))
        return boxes[-1]

    yield begin
    for one in boxes:
        one.end()


def declared(mailbox, **more):
    plain = {"host": "127.0.0.1", "port": mailbox.port, "tls": "none", "sender": "Farm <farm@example.org>"}
    return Email(**plain | {"to": ("farmer@example.org", "office@example.org")} | more)


def read(mail):
    return email.message_from_string(mail[2], policy=email.policy.default)


def test_subject_and_text_from_the_row(log, play, mailbox):
    box = mailbox()
    put(log, ("Großer Acker", "raised", -0.4, None))
    playing = play(
        email=declared(box, subject="{$status}: frost at {site} {{{n}}}", text="{level} °C in {site}, {$id}\n.\n"),
        key=("site",),
        state="state",
    )
    playing.run()
    assert playing.sender.fault is None
    [mail] = box.mails
    assert mail[0].startswith("FROM:<farm@example.org>")
    assert mail[1] == ["TO:<farmer@example.org>", "TO:<office@example.org>"]
    message = read(mail)
    assert message["Subject"] == "raised: frost at Großer Acker {}"
    assert message["Idempotency-Key"] == "alerts/0/0"
    assert message["Message-ID"] == "<ops.alerts.0.0@example.org>"
    assert message.get_content().startswith("-0.4 °C in Großer Acker, alerts/0/0\n.\n")


def test_without_text_it_lists_all_columns_and_a_batch_is_one_mail(log, play, mailbox):
    box = mailbox()
    put(log, ("a", "raised", 1.5, 1), ("b", "raised", 2.5, 2))
    play(email=declared(box), batch=10, key=("site",), state="state").run()
    message = read(box.mails[0])
    assert message["Subject"] == "[ops] raised: a (and 1 more)"
    assert "raised a\nsite: a\nstate: raised\nlevel: 1.5\nn: 1\n(alerts/0/0)" in message.get_content()
    assert "raised b\nsite: b" in message.get_content()


def test_a_row_cannot_write_headers(log, play, mailbox):
    box = mailbox()
    put(log, ("a\r\nBcc: everybody@example.org", "raised", 1.0, 1))
    play(email=declared(box, subject="at {site}")).run()
    message = read(box.mails[0])
    assert message["Bcc"] is None
    assert message["Subject"] == "at a Bcc: everybody@example.org"


def test_starttls_and_login(log, play, mailbox, server_context, ca_file, monkeypatch):
    monkeypatch.setenv("SMTP_PASSWORD", "geheim")
    box = mailbox(context=server_context, users={"farm": "geheim"})
    put(log, ("a", "raised", 1.0, 1))
    safe = {"tls": "starttls", "user": "farm", "password_env": "SMTP_PASSWORD"}
    untrusting = play(email=declared(box, **safe))
    untrusting.run(1)
    assert "certificate verify failed" in untrusting.sender.fault
    assert "AUTH" not in box.seen
    play(email=declared(box, **safe, ca=ca_file)).run()
    assert len(box.mails) == 1
    assert box.seen.index("STARTTLS") < box.seen.index("AUTH")


def test_no_starttls_no_password(log, play, mailbox, monkeypatch):
    monkeypatch.setenv("SMTP_PASSWORD", "geheim")
    box = mailbox(users={"farm": "geheim"})
    put(log, ("a", "raised", 1.0, 1))
    playing = play(email=declared(box, tls="starttls", user="farm", password_env="SMTP_PASSWORD"))
    playing.run(1)
    assert "STARTTLS" in playing.sender.fault
    assert "AUTH" not in box.seen
    assert box.mails == []


def test_a_wrong_password_is_about_us_not_about_the_alert(log, play, mailbox, server_context, ca_file, monkeypatch):
    monkeypatch.setenv("SMTP_PASSWORD", "wrong")
    box = mailbox(context=server_context, users={"farm": "geheim"})
    put(log, ("a", "raised", 1.0, 1))
    playing = play(
        email=declared(box, tls="starttls", user="farm", password_env="SMTP_PASSWORD", ca=ca_file), attempts=1
    )
    playing.run(10)
    assert "535" in playing.sender.fault
    assert log.status()["dead_letters"].rows == 0
    box.users["farm"] = "wrong"
    playing.run(60)
    assert len(box.mails) == 1


@pytest.mark.parametrize(
    ("answers", "mails", "letters"),
    [
        ({"DATA": ["451 later"] * 2}, 1, 0),
        ({"MAIL": ["421 full"]}, 1, 0),
        ({"RCPT": ["450 greylisted", "450 greylisted"]}, 1, 0),
        ({"DATA": ["554 looks like spam"] * 2}, 0, 1),
        ({"RCPT": ["550 nobody"] * 4}, 0, 1),
        ({"RCPT": ["550 nobody", "250 ok", "550 nobody", "250 ok"]}, 2, 1),
    ],
)
def test_for_a_while_and_for_ever(log, play, mailbox, answers, mails, letters):
    box = mailbox()
    box.answers = {word: list(replies) for word, replies in answers.items()}
    put(log, ("a", "raised", 1.0, 1))
    play(email=declared(box), attempts=2).run(20)
    assert len(box.mails) == mails
    assert log.status()["dead_letters"].rows == letters


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"to": ("nobody",)}, "no mail address"),
        ({"subject": "{place}"}, "'{place}' in the template is no column"),
        ({"text": "a { b"}, "no column"),
        ({"user": "farm"}, "user and password_env together"),
        ({"user": "farm", "password_env": "SMTP_PASSWORD"}, "a password and no TLS"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(more, said, monkeypatch, tmp_path):
    monkeypatch.setenv("SMTP_PASSWORD", "x")
    plain = {"host": "x", "tls": "none", "sender": "a@example.org", "to": ("b@example.org",)}
    with pytest.raises(ConfigError, match=said):
        open_email("ops", Email(**plain | more), ["site"], 1.0, tmp_path)
