# aredun, its command and its server: `docker build --tag aredun .`; compose.yaml runs it beside PostgreSQL.
FROM python:3.13-slim AS build
WORKDIR /source
RUN pip install --no-cache-dir uv==0.13.9
COPY . .
RUN mkdir /wheels \
    && uv export --quiet --frozen --extra aws --extra server --no-emit-project --output-file /wheels/requirements.txt \
    && uv build --quiet --wheel --out-dir /wheels

FROM python:3.13-slim
COPY --from=build /wheels /wheels
# What the lock file names, and nothing else.
RUN pip install --no-cache-dir --require-hashes --requirement /wheels/requirements.txt \
    && pip install --no-cache-dir --no-deps /wheels/*.whl \
    && useradd --create-home --uid 1000 aredun
USER 1000
WORKDIR /home/aredun
EXPOSE 8080
ENTRYPOINT ["aredun"]
CMD ["--help"]
