import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { expandEnvVars, withoutHidden } from "../../src/run/environment.ts";

const base = { PATH: process.env.PATH, SCRATCH: "/scratch/me and you" };

describe("expandEnvVars", () => {
  test("expands as bash does in a here-document, later ones from earlier ones", async () => {
    const values = await expandEnvVars(
      { CACHE: "${SCRATCH}/hf", DEEP: "$CACHE/deep", SAID: 'he said "$(echo hi)"\n*', EMPTY: "" },
      base,
      { cwd: "/" },
    );
    assert.deepEqual(values, {
      CACHE: "/scratch/me and you/hf",
      DEEP: "/scratch/me and you/hf/deep",
      SAID: 'he said "hi"\n*',
      EMPTY: "",
    });
  });

  test("quotes are text, but inside of what is expanded they quote", async () => {
    const values = await expandEnvVars(
      {
        TWO: '$(echo "a  b")',
        TICKS: '`printf "%s" "c  d"`',
        UNSET: '${NOT_SET_HERE:-"e  f"}',
        JSON: '{"a": "$(echo "$SCRATCH")", "b": \'$\'}',
        NESTED: '"$(echo "$(echo \'"\')" | tr \'"\' "\'")"',
        COST: "\\$5 \\\\ C:\\",
        LINES: "EH_END\nlast\n\n",
      },
      base,
      { cwd: "/" },
    );
    assert.deepEqual(values, {
      TWO: "a  b",
      TICKS: "c  d",
      UNSET: "e  f",
      JSON: '{"a": "/scratch/me and you", "b": \'$\'}',
      NESTED: `"'"`,
      COST: "$5 \\ C:\\",
      LINES: "EH_END\nlast\n\n",
    });
  });

  test("starts where it is told, and ends when it is told", async () => {
    assert.deepEqual(await expandEnvVars({ HERE: "$(pwd)" }, base, { cwd: "/usr" }), {
      HERE: "/usr",
    });
    const signal = AbortSignal.abort(new Error("enough"));
    const expanding = expandEnvVars({ LATE: "$(sleep 100)" }, base, { cwd: "/", signal });
    await assert.rejects(expanding, { message: "enough" });
  });

  test("reports what bash can't expand", async () => {
    for (const BAD of ["${", "$(", "`", "$((1/0))", "${GONE?is not set}"]) {
      await assert.rejects(
        expandEnvVars({ BAD }, { ...base, BAD: "inherited" }, { cwd: "/" }),
        { code: "env-vars.expand" },
        BAD,
      );
    }
  });
});

test("ranks and proxies are hidden from lm_eval", () => {
  assert.deepEqual(withoutHidden({ RANK: "1", https_proxy: "x", HTTP_PROXY: "y", HOME: "/h" }), {
    HOME: "/h",
  });
});
