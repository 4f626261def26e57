import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseAnswerHead } from "../../src/balancer/answer-head.ts";
import { isCutShort } from "../../src/balancer/json-end.ts";

const json = "HTTP/1.1 200 OK\r\nContent-Type: application/json";

function isCut(head: string, ...body: string[]): boolean {
  return isCutShort(
    parseAnswerHead(head, "POST"),
    body.map((part) => Buffer.from(part)),
  );
}

describe("an answer of JSON", () => {
  test("is cut short where an object does not end with its brace", () => {
    const whole = `${json}\r\nContent-Length: 9`;
    assert.ok(isCut(whole, '{"a": ', "1 "));
    assert.ok(!isCut(whole, ' {"a": ', "1", "}\n"));
  });

  test("is cut short where any object has no end, if the end of the connection is its end", () => {
    assert.ok(isCut(json, '{"a": {"b": 1}'));
    assert.ok(isCut(json, '{"a": "}'));
    assert.ok(!isCut(json, '{"a": {"b": NaN},', ' "c": "{\\"{"}'));
  });

  test("is cut short before its first byte, where the end of the connection is its end", () => {
    assert.ok(isCut(json));
    assert.ok(isCut(json, " \n"));
    assert.ok(!isCut(`${json}\r\nContent-Length: 0`));
  });

  test("may be no object, or packed, or no JSON: then nobody knows its end", () => {
    assert.ok(!isCut(json, "null"));
    assert.ok(!isCut(`${json}\r\nContent-Encoding: gzip`, "{"));
    assert.ok(!isCut("HTTP/1.1 200 OK\r\nContent-Type: text/plain", "{"));
  });
});
