"""A mail server for tests: writes every mail it takes as one line of JSON.

Recipients say how they are met: `later…` is put off (451), `once…` is put off the first time,
`never…` is refused (550), all others are taken.
"""
import asyncio
import base64
import json
import ssl
import sys

try:
    from aiosmtpd.smtp import SMTP, AuthResult
except ImportError:
    sys.exit("python3-aiosmtpd is missing; install it with: apt-get install python3-aiosmtpd")

options = json.loads(sys.argv[1])


class Handler:
    def __init__(self):
        self.put_off = set()

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address.startswith("later"):
            return "451 4.3.2 Please try again later"
        if address.startswith("once") and address not in self.put_off:
            self.put_off.add(address)
            return "451 4.7.1 Greylisted, please try again later"
        if address.startswith("never"):
            return "550 5.1.1 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        login = session.auth_data.decode() if session.auth_data else None
        is_tls = options["security"] == "implicit" or session.ssl is not None
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "message": base64.b64encode(envelope.original_content).decode(),
            "is_tls": is_tls,
            "user": login,
        }
        with open(options["file"], "a", encoding="utf-8") as file:
            file.write(json.dumps(mail) + "\n")
        return "250 2.0.0 OK queued as TEST1"


def authenticate(server, session, envelope, mechanism, data):
    login = data.login.decode(), data.password.decode()
    if list(login) == options["credentials"]:
        return AuthResult(success=True, auth_data=data.login)
    return AuthResult(success=False, handled=False)


async def main():
    context = None
    if options["security"] != "plain":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options["cert_file"], options["key_file"])
    is_starttls = options["security"] == "starttls"
    handler = Handler()

    def protocol():
        return SMTP(
            handler,
            hostname="mail.test",
            enable_SMTPUTF8=True,
            tls_context=context if is_starttls else None,
            require_starttls=is_starttls,
            auth_required=options["credentials"] is not None,
            auth_require_tls=is_starttls,
            authenticator=authenticate,
            loop=asyncio.get_running_loop(),
        )

    implicit = context if options["security"] == "implicit" else None
    server = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", options["port"], ssl=implicit
    )
    print("listening on", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
