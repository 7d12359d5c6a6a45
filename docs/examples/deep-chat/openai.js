// Deep Chat (npm: deep-chat) on the OpenAI-compatible API of visavis: no code of ours, only two translations of form.
// Started as bridge.js says; the page is http://127.0.0.1:9000/docs/examples/deep-chat/openai.html

const home = new URL(new URLSearchParams(location.search).get("chat") ?? "http://127.0.0.1:8080");

const dataUrl = (file) =>
  new Promise((resolve, reject) => {
    const reader = Object.assign(new FileReader(), { onload: () => resolve(reader.result), onerror: reject });
    reader.readAsDataURL(file);
  });

/** Deep Chat's messages (a form, when there are files) as OpenAI has them. */
async function request({ body, headers }) {
  const form = body instanceof FormData;
  const { text } = form ? JSON.parse(body.get("message1") ?? "{}") : body.messages[0];
  const urls = await Promise.all(form ? body.getAll("files").map(dataUrl) : []);
  const pictures = urls.map((url) => ({ type: "image_url", image_url: { url } }));
  const content = [...pictures, { type: "text", text: text || "Describe the picture." }];
  const asked = { model: "visavis", stream: true, messages: [{ role: "user", content }] };
  return { body: form ? JSON.stringify(asked) : asked, headers: { ...headers, "Content-Type": "application/json" } };
}

const chat = document.querySelector("deep-chat");
chat.connect = { url: new URL("v1/chat/completions", home).href, stream: true };
chat.requestInterceptor = request;
chat.responseInterceptor = ({ choices, error }) => (error ? { error: error.message } : { text: choices?.[0]?.delta?.content ?? "" });
