"""Sends many messages over several SMTP connections, and counts the replies. Run by rig/flood."""

import collections
import json
import smtplib
import sys
import threading
import time

SENDER = "test01@example.com"
MESSAGE = "Subject: flood\r\n\r\nOne of many.\r\n"

mails, connections = int(sys.argv[1]), int(sys.argv[2])
pause = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
codes = collections.Counter()
slowest = 0.0
lock = threading.Lock()


def send(count):
    """Sends `count` messages over one connection; a refusal or a broken connection is counted, not raised."""
    global slowest
    client = smtplib.SMTP("127.0.0.1", 10587, timeout=60)
    client.login(SENDER, "Example1234")
    for _ in range(count):
        begin = time.monotonic()
        try:
            client.sendmail(SENDER, ["rcpt@example.net"], MESSAGE)
            code = "250"
        except smtplib.SMTPResponseException as error:
            code = str(error.smtp_code)
        except (smtplib.SMTPException, OSError) as error:
            code = type(error).__name__
        with lock:
            codes[code] += 1
            slowest = max(slowest, time.monotonic() - begin)
        time.sleep(pause)
    client.quit()


shares = [mails // connections + (i < mails % connections) for i in range(connections)]
threads = [threading.Thread(target=send, args=(share,)) for share in shares]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({"codes": dict(sorted(codes.items())), "slowest": round(slowest, 2)}))
