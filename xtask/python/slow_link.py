"""Several hosts on this machine, as network namespaces whose only link is slow: `cargo xtask bench ranks`.

Each host is a namespace `NAME0`, `NAME1`, … with the address 10.77.0.1, 10.77.0.2, …, on an interface whose packets
this process passes on: after the time that they take at the given rate, and the given delay. Needs root, Linux, and
`ip`. Prints a line when the hosts are there; ends at the end of standard input, removes them, and prints the bytes that
each has sent as JSON.
"""

import argparse
import fcntl
import heapq
import json
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# Few packets, because each costs a turn of the loop below.
MTU = 65000


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def host(name, number):
    """The file of a host's interface."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    interface = f"{name}{number}"
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", interface.encode(), IFF_TUN | IFF_NO_PI))
    ip("netns", "add", interface)
    ip("link", "set", interface, "netns", interface)
    inside = ["-n", interface]
    ip(*inside, "addr", "add", f"10.77.0.{number + 1}/24", "dev", interface)
    ip(*inside, "link", "set", interface, "mtu", str(MTU), "txqueuelen", "10000", "up")
    ip(*inside, "link", "set", "lo", "up")
    return tun


def remove(name, hosts):
    for number in range(hosts):
        subprocess.run(["ip", "netns", "del", f"{name}{number}"], stderr=subprocess.DEVNULL, check=False)


def pass_on(tuns, delay, bytes_per_second):
    """Passes packets on until standard input ends; the bytes that each host has sent."""
    sent, free, queue, count = [0] * len(tuns), [0.0] * len(tuns), [], 0
    of_file = {tun: number for number, tun in enumerate(tuns)}
    while True:
        wait = max(0.0, queue[0][0] - time.monotonic()) if queue else None
        ready, _, _ = select.select([sys.stdin, *tuns], [], [], wait)
        now = time.monotonic()
        while queue and queue[0][0] <= now:
            _, _, to, packet = heapq.heappop(queue)
            os.write(tuns[to], packet)
        for file in ready:
            if file is sys.stdin:
                if not os.read(0, 1024):
                    return sent
                continue
            number = of_file[file]
            packet = os.read(file, MTU + 64)
            # IPv4 to another of the hosts.
            if len(packet) < 20 or packet[0] >> 4 != 4 or packet[16:19] != bytes([10, 77, 0]):
                continue
            to = packet[19] - 1
            if not 0 <= to < len(tuns):
                continue
            sent[number] += len(packet)
            free[number] = max(now, free[number]) + len(packet) / bytes_per_second
            count += 1
            heapq.heappush(queue, (free[number] + delay, count, to, packet))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, required=True)
    parser.add_argument("--gbit", type=float, required=True)
    args = parser.parse_args()
    remove(args.name, args.hosts)
    try:
        tuns = [host(args.name, number) for number in range(args.hosts)]
        print("ready", flush=True)
        sent = pass_on(tuns, args.delay_ms / 1e3, args.gbit * 1e9 / 8)
    finally:
        remove(args.name, args.hosts)
    print(json.dumps(sent))


if __name__ == "__main__":
    main()
