/** For Node: a store in files. */
import { randomBytes, createHash } from "node:crypto";
import * as fs from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { QueueStore, type Change, type Store } from "./store.js";

/** Bytes of a journal beyond twice of what waits, at which it is written anew. */
const SLACK = 1_000_000;

/** Another process has the store. */
class InUse extends Error {
  readonly code = "in_use";
}

/** A journal of changes, one a line: a line is there or it is not, so a change is made or it is not. */
class FileStore extends QueueStore {
  readonly name = "file";
  #dir: string;
  #file: string;
  #fd = -1;
  /** Where the next line goes: what is behind it is of a write that failed. */
  #end = 0;
  #unlock: (() => Promise<void>) | undefined;

  constructor(dir: string) {
    super();
    this.#dir = resolve(dir);
    this.#file = join(this.#dir, "journal.jsonl");
  }

  protected override async load(): Promise<void> {
    fs.mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    this.#unlock = await lock(this.#dir);
    try {
      this.#read();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  protected override save(change: Change): void {
    if (this.#end > SLACK + 2 * this.queue.bytes) this.#compact();
    const line = Buffer.from(JSON.stringify(change) + "\n");
    write(this.#fd, line, this.#end);
    this.#end += line.length;
  }

  override async close(): Promise<void> {
    if (this.#fd >= 0) fs.closeSync(this.#fd);
    this.#fd = -1;
    await this.#unlock?.();
    this.#unlock = undefined;
  }

  #read(): void {
    this.#fd = fs.openSync(this.#file, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
    const bytes = fs.readFileSync(this.#fd);
    this.#end = bytes.lastIndexOf(10) + 1;
    // The last line of a process that was killed while it wrote.
    if (this.#end < bytes.length) fs.ftruncateSync(this.#fd, this.#end);
    for (const line of bytes.subarray(0, this.#end).toString().split("\n")) {
      try {
        if (line) this.queue.apply(JSON.parse(line));
      } catch {
        // Power failed before the disk had it: the lines around it are good.
      }
    }
  }

  /** Writes what there is into a new file in place of the old one. */
  #compact(): void {
    const { entries, counts, offsets } = this.queue.read(Infinity);
    const changes: Change[] = [{ count: counts }, ...entries.map((entry) => ({ add: [entry] }))];
    for (const offset of Object.entries(offsets)) changes.push({ offset });
    const bytes = Buffer.from(changes.map((change) => JSON.stringify(change) + "\n").join(""));
    const file = this.#file + ".new";
    let fd = -1;
    try {
      fd = fs.openSync(file, "w+", 0o600);
      write(fd, bytes, 0);
      fs.fsyncSync(fd);
      fs.renameSync(file, this.#file);
    } catch {
      // There is no room for it: the old one goes on.
      if (fd >= 0) fs.closeSync(fd);
      return;
    }
    fs.closeSync(this.#fd);
    this.#fd = fd;
    this.#end = bytes.length;
  }
}

/** Writes all of it, or throws. */
function write(fd: number, bytes: Buffer, position: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += fs.writeSync(fd, bytes, done, bytes.length - done, position + done);
  }
}

/**
 * Holds a folder until the process ends, however it ends: a socket that listens is closed by the system. Each process has
 * a socket of its own, so to remove a dead one's never removes a living one's.
 */
async function lock(dir: string): Promise<() => Promise<void>> {
  const hash = createHash("sha256").update(fs.realpathSync(dir)).digest("hex").slice(0, 16);
  const windows = process.platform === "win32";
  // A socket's path has at most 103 bytes on some systems.
  const prefix = dir.length < 80 ? join(dir, "lock-") : join(tmpdir(), `rivulet-${hash}-`);
  for (let attempt = 0; ; attempt++) {
    const own = windows ? `\\\\.\\pipe\\rivulet-${hash}` : prefix + randomBytes(6).toString("hex");
    const server = net.createServer((socket) => socket.destroy());
    const free = (): Promise<void> => new Promise((done) => server.close(() => done()));
    const listens = await new Promise<boolean>((resolve, reject) => {
      server.once("listening", () => resolve(true));
      server.once("error", (error: NodeJS.ErrnoException) => (error.code === "EADDRINUSE" ? resolve(false) : reject(error)));
      server.listen(own);
    });
    server.unref();
    if (listens && (windows || !(await othersListen(prefix, own)))) return free;
    if (listens) await free();
    // Two that start at once see each other, and both go: the next time they do not meet.
    if (attempt) throw new InUse(`${dir} is in use by another process`);
    await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 100));
  }
}

/** Whether another process holds it. Removes what dead ones left. */
async function othersListen(prefix: string, own: string): Promise<boolean> {
  const folder = dirname(prefix);
  const paths = fs.readdirSync(folder).map((name) => join(folder, name));
  for (const path of paths.filter((path) => path.startsWith(prefix) && path !== own)) {
    const code = await new Promise<string | undefined>((resolve) => {
      const socket = net.connect(path, () => resolve(undefined));
      socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code)).unref();
      socket.on("connect", () => socket.destroy());
    });
    if (code !== "ECONNREFUSED" && code !== "ENOENT") return true;
    fs.rmSync(path, { force: true });
  }
  return false;
}

/**
 * Events in files of a folder, which one process has: opening it in another fails with `in_use`. An event that was tracked
 * survives the end of the process, however it ends; the end of the machine only where the system had written it.
 */
export function fileStore(dir: string): Store {
  return new FileStore(dir);
}
