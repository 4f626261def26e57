/**
 * Serves a checkpoint of the demo as an OpenAI completions server, with the probabilities of its model:
 *
 *     node examples/demo/server.ts --model runs/demo-models/tollbridge-final --port 8000
 *
 * Prints one line of JSON, `{"port": …}`, once it answers; port 0 takes a free one. SIGTERM and SIGINT end it at once.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { parseArgs } from "node:util";
import { readCheckpoint } from "./checkpoint.ts";
import { complete, parseRequest, RequestError } from "./completions.ts";
import { type NgramModel, openNgramModel } from "./ngram-model.ts";

interface Served {
  readonly name: string;
  readonly model: NgramModel;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

function answerError(response: ServerResponse, status: number, message: string): void {
  answer(response, status, { error: { message, code: status } });
}

async function answerCompletion(
  request: IncomingMessage,
  response: ServerResponse,
  { name, model }: Served,
): Promise<void> {
  try {
    const wanted = parseRequest(await readBody(request));
    answer(response, 200, { ...complete(wanted, model), model: name });
  } catch (error) {
    if (error instanceof RequestError) return answerError(response, 400, error.message);
    if (!request.complete) return;
    process.stderr.write(`${(error as Error).stack}\n`);
    answerError(response, 500, String(error));
  }
}

/** An HTTP server that answers for one model; not listening yet. */
export function createModelServer(served: Served): Server {
  const { name } = served;
  const server = createServer((request, response) => {
    const [path] = (request.url ?? "").split("?");
    const route = `${request.method} ${path}`;
    if (route === "POST /v1/completions") void answerCompletion(request, response, served);
    else if (route === "GET /health") answer(response, 200, {});
    else if (route === "GET /v1/models") {
      answer(response, 200, {
        object: "list",
        data: [{ id: name, object: "model", owned_by: "eval-hive" }],
      });
    } else answerError(response, 404, `No such path: ${route}`);
  });
  // aiohttp keeps idle sockets for 15 s, balancers longer: whoever closes last causes no resets.
  server.keepAliveTimeout = 90_000;
  return server;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      model: { type: "string" },
      port: { type: "string", default: "8000" },
      host: { type: "string", default: "127.0.0.1" },
    },
  });
  if (values.model === undefined) throw new Error("Cannot start the server: --model is missing");
  const model = openNgramModel(await readCheckpoint(values.model));
  const server = createModelServer({ name: values.model, model });
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(0));
  server.listen(Number(values.port), values.host, () => {
    const { port } = server.address() as AddressInfo;
    process.stdout.write(`${JSON.stringify({ port })}\n`);
  });
}
